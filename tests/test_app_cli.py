"""The command line says what is wrong with its surroundings, and starts nothing then."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT


def inkling(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "app.cli", *arguments)
    environment = {**os.environ, **settings}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)


def test_help_lists_the_commands() -> None:
    result = inkling("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("serve", "worker", "train", "data"))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INKLING_PORT", "many", "valid integer"),
        ("INKLING_PORT", "65536", "less than or equal to 65535"),
        ("INKLING_MAX_QUEUED_RUNS", "0", "greater than or equal to 1"),
        ("INKLING_LOG_LEVEL", "loud", "DEBUG|INFO|WARNING|ERROR"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str, says: str) -> None:
    result = inkling("serve", **{name: value})
    assert result.returncode == 1
    assert result.stderr.startswith(f"{name}: ")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = inkling("serve", INKLING_PORT=str(port), INKLING_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = inkling("serve", INKLING_DATA_DIR=str(tmp_path / "file" / "data"))
    assert result.returncode == 1
    assert f"INKLING_DATA_DIR: cannot write to {tmp_path}/file/data: Not a directory" in result.stderr


def test_data_fetches_mnist_into_the_cache(cache_dir: Path) -> None:
    result = inkling("data", INKLING_CACHE_DIR=str(cache_dir))
    assert result.stdout == "60,000 training and 10,000 test images\n"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            '{"epochs": 0, "network": [{"type": "dense", "units": 0}]}',
            "epochs: Input should be greater than or equal to 1",
        ),
        ('{"epochs": 0, "network": [{"type": "dense", "units": 0}]}', "network.0.dense.units: Input should be greater"),
        ('{"epochs": 1', "not a JSON object"),
        ("[]", "not a JSON object"),
        (None, "No such file or directory"),
    ],
)
def test_a_spec_that_cannot_be_trained_is_refused_by_its_path(tmp_path: Path, spec: str | None, says: str) -> None:
    path = tmp_path / "spec.json"
    if spec is not None:
        path.write_text(spec)
    result = inkling("train", str(path), "--output", str(tmp_path / "model"))
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "model").exists()


def test_an_output_without_a_folder_is_refused_before_the_training(tmp_path: Path) -> None:
    for option in ("--output", "--checkpoint"):
        result = inkling("train", option, str(tmp_path / "none" / "file"))
        assert (result.returncode, result.stderr) == (1, f"{option}: there is no folder {tmp_path}/none\n")


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    result = inkling("train", "--preset", "huge")
    assert result.returncode == 1
    assert "preset: Input should be 'tutorial', 'quick', 'convnet', 'accurate' or 'tiny'" in result.stderr
