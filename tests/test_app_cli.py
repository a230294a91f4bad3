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
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands() -> None:
    result = inkling("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("serve", "worker", "data"))


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
