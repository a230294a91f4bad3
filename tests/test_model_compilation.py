"""What JAX is told before its first operation, when it is still listened to; compiled code that is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.files import prune
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
OURS = (
    "--xla_gpu_deterministic_ops=true --xla_gpu_enable_triton_gemm=false "
    "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT"
)
OWN = OURS.replace("true", "false")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [OURS, "false"]),
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


def test_what_was_unused_for_longest_is_deleted(tmp_path: Path) -> None:
    for number, (read, written) in enumerate([(3, 3), (1, 1), (9, 1), (1, 4)]):
        path = tmp_path / f"{number}-cache"
        path.write_bytes(b"10 bytes..")
        os.utime(path, (read, written))
    prune([*tmp_path.iterdir(), tmp_path / "gone-cache"], most_bytes=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2-cache", "3-cache"]


VANISHING = """
import sys, warnings
from pathlib import Path
from model.compilation import configure_jax
from model.files import prune
configure_jax(Path(sys.argv[1]))
import jax
folder = Path(sys.argv[1], "compiled")
jax.jit(lambda x: x + 2)(1.0)
prune(folder.iterdir(), most_bytes=0)
assert not list(folder.iterdir())
jax.clear_caches()
assert jax.jit(lambda x: x + 2)(1.0) == 3
assert (written := list(folder.glob("*-cache")))

def compile_again():
    for path in written:
        path.write_bytes(path.read_bytes()[:-9])
    jax.clear_caches()
    assert jax.jit(lambda x: x + 2)(1.0) == 3

compile_again()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    compile_again()
assert "Error reading persistent compilation cache" in str(said[0].message)
"""


def test_code_that_was_deleted_or_torn_is_compiled_again_without_a_word(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", VANISHING, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
