"""What is kept on disk is what would be computed, or it is computed again."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import kept as module
from model.kept import kept

INPUT = np.arange(6, dtype=np.uint8).reshape(2, 3)


class Computation:
    """Counts how often it is asked; one of its arrays lies in memory column by column."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, NDArray[Any]]:
        self.times += 1
        return {"columns": np.arange(6.0).reshape(3, 2).T, "bytes": INPUT}

    def assert_kept(self, folder: Path | None, *, times: int) -> None:
        arrays = kept(folder, self, INPUT)
        for name, array in Computation()().items():
            np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert self.times == times


def test_what_was_computed_once_is_read_afterwards(tmp_path: Path) -> None:
    compute = Computation()
    for _ in range(3):
        compute.assert_kept(tmp_path / "new", times=1)


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    compute = Computation()
    compute.assert_kept(tmp_path, times=1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        before = compute.times
        compute.assert_kept(tmp_path, times=before + 1)
        assert file.read_bytes() == whole


@pytest.mark.parametrize("other", [INPUT + 1, INPUT.astype(np.uint16), INPUT.reshape(3, 2)])
def test_other_inputs_are_computed_for_themselves(tmp_path: Path, other: NDArray[Any]) -> None:
    compute = Computation()
    compute.assert_kept(tmp_path, times=1)
    kept(tmp_path, compute, other)
    assert compute.times == 2


@pytest.mark.parametrize("name", ["_CODE", "hardware", "_processor", "version"])
def test_another_version_or_machine_computes_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compute = Computation()
    compute.assert_kept(tmp_path, times=1)
    monkeypatch.setattr(module, name, "another" if name == "_CODE" else lambda *_: "another")
    compute.assert_kept(tmp_path, times=2)


def test_another_option_of_a_library_computes_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Computation()
    compute.assert_kept(tmp_path, times=1)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    compute.assert_kept(tmp_path, times=2)


def test_where_nothing_can_be_kept_it_is_computed_each_time(tmp_path: Path) -> None:
    compute = Computation()
    compute.assert_kept(None, times=1)
    (tmp_path / "file").touch()
    compute.assert_kept(tmp_path / "file", times=2)
    assert os.listdir(tmp_path) == ["file"]
