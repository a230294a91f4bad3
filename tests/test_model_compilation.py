"""What JAX is told before its first operation, when it is still listened to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PROGRAM = """
import os, sys
from pathlib import Path
import app.cli_local, app.trainer
from model.compilation import configure_jax
from jax._src.xla_bridge import backends_are_initialized
configure_jax(Path(sys.argv[1]))
configure_jax(Path(sys.argv[1]))
assert not backends_are_initialized()
print(os.environ["XLA_FLAGS"], os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"], sep="\\n")
import jax
jax.jit(lambda x: x + 1)(1.0)
"""
OWN = "--xla_gpu_deterministic_ops=false"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["--xla_gpu_deterministic_ops=true", "false"]),
        ({"XLA_FLAGS": OWN, "XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, [OWN, "true"]),
    ],
    ids=["nothing set", "the operator's own"],
)
def test_flags_are_set_before_there_is_a_backend_and_known_to_it(
    tmp_path: Path, given: dict[str, str], expected: list[str]
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("XLA_")}
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        env={**clean, **given},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == expected
    assert list((tmp_path / "compiled").iterdir())
