"""One training over several devices or processes gives what one device gives, up to rounding."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from model.checkpoint import from_bytes
from tests.processes import ROOT

SPEC: dict[str, Any] = {
    "network": [
        {"type": "conv2d", "filters": 4, "strides": 3, "activation": "relu"},
        {"type": "conv2d", "filters": 16, "kernel_size": 5, "activation": "relu"},  # by Fourier transforms
        {"type": "batch_normalization"},
        {"type": "flatten"},
        {"type": "dropout", "rate": 0.2},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ],
    "optimizer": {"type": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "augmentation": {"shift": 2, "noise": 0.1, "variants": 0.5},
    "ema_momentum": 0.9,
    "batch_size": 500,  # no multiple of 8
    "epochs": 1,
    "validation_split": 0.9,
}


def start(folder: Path, name: str, devices: int, **settings: str) -> "subprocess.Popen[str]":
    (folder / "spec.json").write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "app.cli", "train", str(folder / "spec.json"), "--output", str(folder / name)]
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu", **settings}
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **flags}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(*processes: "subprocess.Popen[str]") -> list[str]:
    """What each has said."""
    said = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what one device makes of the spec."""
    folder = tmp_path_factory.mktemp("devices")
    ended(start(folder, "one", 1))
    return folder


def assert_nearly_equal(one: Path, other: Path) -> None:
    for path, (a, b) in enumerate(
        zip(*(jax.tree.leaves(from_bytes(path.read_bytes())[1]) for path in (one, other)), strict=True)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4, err_msg=str(path))


def test_eight_devices_give_what_one_gives(folder: Path) -> None:
    ended(start(folder, "eight", 8))
    assert_nearly_equal(folder / "one", folder / "eight")


def test_two_processes_give_what_one_gives_and_the_first_writes_it_and_tells_of_it(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    together = {"INKLING_COORDINATOR": coordinator, "INKLING_PROCESSES": "2"}
    first, second = (
        start(folder, name, 2, **together, INKLING_PROCESS=process) for name, process in (("two", "0"), ("none", "1"))
    )
    assert ["epoch 1:" in said for said in ended(first, second)] == [True, False]
    assert_nearly_equal(folder / "one", folder / "two")
    assert not (folder / "none").exists()
