"""A training that was stopped anywhere goes on to the same bits and the same history; a damaged checkpoint is known."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from model.checkpoint import CheckpointError, from_bytes
from model.data import Dataset
from model.devices import hardware
from model.reports import Checkpoint, EpochReport, FitResult, Report, StepReport
from model.resume import SavedTraining
from model.resume import from_bytes as resume
from model.spec import TrainSpec
from model.train import fit
from tests.processes import ROOT
from tests.trainings import small_spec

EVERYTHING = TrainSpec.model_validate(
    {
        "network": [
            {"type": "conv2d", "filters": 4, "strides": 3, "kernel_regularizer": {"l2": 1e-4}},
            {"type": "batch_normalization"},
            {"type": "activation", "activation": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "flatten"},
            {"type": "dense", "units": 10, "activation": "softmax", "kernel_constraint": {"max_value": 2.0}},
        ],
        "optimizer": {"type": "adam", "learning_rate": 0.02},
        "augmentation": {"shift": 2, "rotation": 10, "elastic": 1, "noise": 0.1, "variants": 0.5},
        "metrics": ["top_k_categorical_accuracy", "per_class_accuracy"],
        "class_weight": [1, 1, 2, 1, 1, 1, 1, 1, 1, 0.5],
        "early_stopping": {"monitor": "validation_accuracy", "patience": 3, "restore_best_weights": True},
        "reduce_lr_on_plateau": {"patience": 1, "factor": 0.5},
        "ema_momentum": 0.9,
        "batch_size": 64,
        "epochs": 6,
        "validation_split": 0.2,
    }
)


@pytest.fixture(scope="module", autouse=True)
def _often() -> Iterator[None]:
    """A chunk a step, and a checkpoint after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.plan.CHUNK_SECONDS", 1e-9)
        patch.setattr("model.train.CHECKPOINT_SHARE", 1e9)
        yield


@pytest.fixture(scope="module")
def whole(images: Dataset) -> list[Report]:
    """A training that nothing stopped, with its checkpoints."""
    return list(reports(images))


def checkpoints_of(reports: list[Report]) -> list[bytes]:
    return [report.data for report in reports if isinstance(report, Checkpoint)]


def reports(images: Dataset, saved: SavedTraining | None = None, spec: TrainSpec = EVERYTHING) -> Iterator[Report]:
    return fit(spec, images, saved=saved, checkpoint_seconds=0.0)


def history(reports: list[Report]) -> list[dict[str, Any]]:
    """Without the seconds, which no clock repeats."""
    return [report.model_dump(exclude={"seconds"}) for report in reports if isinstance(report, EpochReport)]


def test_a_training_goes_on_from_any_checkpoint_to_the_same_bits_and_history(
    images: Dataset, whole: list[Report]
) -> None:
    checkpoints, result = checkpoints_of(whole), whole[-1]
    assert isinstance(result, FitResult)
    assert len(checkpoints) > 3 * 14  # each step of at least three epochs
    for checkpoint in random.Random(0).sample(checkpoints, 4) + checkpoints[-1:]:
        saved = resume(checkpoint, EVERYTHING)
        rest = list(reports(images, saved))
        assert isinstance(rest[-1], FitResult)
        jax.tree.map(np.testing.assert_array_equal, rest[-1].parameters, result.parameters)
        assert rest[-1].validation == result.validation
        before = [epoch.model_dump(exclude={"seconds"}) for epoch in saved.journal.history]
        assert before + history(rest) == history(whole)


def test_a_damaged_checkpoint_or_another_specs_is_refused(whole: list[Report]) -> None:
    data = checkpoints_of(whole)[0]
    resume(data, EVERYTHING)
    for place in (0, 40, len(data) // 2, len(data) - 1):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(CheckpointError, match="damaged"):
            resume(damaged, EVERYTHING)
    for cut in (b"", data[:31], data[:-1]):
        with pytest.raises(CheckpointError, match="damaged"):
            resume(cut, EVERYTHING)
    with pytest.raises(CheckpointError, match="of another spec"):
        resume(data, EVERYTHING.model_copy(update={"seed": 1}))


def test_a_checkpoint_of_a_version_with_other_fields_is_refused(whole: list[Report]) -> None:
    file = checkpoints_of(whole)[0][32:]
    header_bytes = 8 + int.from_bytes(file[:8], "little")
    for field in (b"plateau_rate", b"best_epoch"):  # of the journal, and of what a monitor remembers
        header = file[8:header_bytes].replace(field, b"another_name")
        assert header != file[8:header_bytes]
        other = len(header).to_bytes(8, "little") + header + file[header_bytes:]
        with pytest.raises(CheckpointError, match="written by another version"):
            resume(hashlib.sha256(other).digest() + other, EVERYTHING)


def test_going_on_where_sums_may_round_otherwise_is_said(whole: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    journal = resume(checkpoints_of(whole)[0], EVERYTHING).journal
    assert journal.place == "in epoch 1"
    monkeypatch.setattr("model.resume.hardware", lambda: "1 × NVIDIA H100")
    assert re.fullmatch(r"in epoch 1, on 1 × NVIDIA H100 after 1 × cpu of \d+ cores, so that .*", journal.place)


def test_a_training_that_comes_back_to_where_it_began_says_where_it_has_been(
    images: Dataset, whole: list[Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, here = resume(checkpoints_of(whole)[0], EVERYTHING), hardware()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("model.training.hardware", lambda: "1 × NVIDIA H100")
        checkpoint = next(report.data for report in reports(images, saved) if isinstance(report, Checkpoint))
    journal = resume(checkpoint, EVERYTHING).journal
    assert journal.place == f"in epoch 1, on {here} after {here}, 1 × NVIDIA H100, so that it may round otherwise"


def test_a_training_keeps_the_cut_of_the_epoch_that_it_takes_over_and_cuts_the_next_for_itself(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec()
    checkpoint = next(report.data for report in reports(images, spec=spec) if isinstance(report, Checkpoint))
    saved = resume(checkpoint, spec)
    monkeypatch.setattr("model.plan.CHUNK_SECONDS", 1e9)
    rest = fit(spec, images, saved=saved)
    epochs = [report.epoch for report in rest if isinstance(report, StepReport)]
    assert (epochs.count(1), epochs.count(2)) == (10, 1)


def test_without_the_wish_for_checkpoints_none_are_made(images: Dataset) -> None:
    assert not any(isinstance(report, Checkpoint) for report in fit(EVERYTHING, images))


KILLED_SPEC = """{"network": [{"type": "flatten"}, {"type": "dense", "units": 32}, {"type": "batch_normalization"},
  {"type": "dropout", "rate": 0.2}, {"type": "dense", "units": 10, "activation": "softmax"}],
  "ema_momentum": 0.99, "batch_size": 16, "epochs": 20, "validation_split": 0.1}"""


def start(folder: Path, output: str, *options: str) -> "subprocess.Popen[str]":
    (folder / "spec.json").write_text(KILLED_SPEC)
    command = [sys.executable, "-m", "app.cli", "train", str(folder / "spec.json"), "--output", str(folder / output)]
    return subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_training_killed_ten_times_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    undisturbed = start(tmp_path, "whole.safetensors")
    _, said = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, said
    checkpoint = tmp_path / "checkpoint"
    options = ("--checkpoint", str(checkpoint), "--checkpoint-seconds", "0.1")
    moments, taken_up = random.Random(0), 0
    for _ in range(10):
        killed = start(tmp_path, "killed.safetensors", *options)
        wait_for_change(checkpoint, killed)
        time.sleep(moments.uniform(0.0, 0.15))
        os.kill(killed.pid, signal.SIGKILL)
        _, said = killed.communicate()
        assert killed.returncode == -signal.SIGKILL, said
        taken_up += "going on in epoch" in said
    assert taken_up == 9
    last = start(tmp_path, "killed.safetensors", *options)
    _, said = last.communicate(timeout=400)
    assert last.returncode == 0, said
    assert "going on in epoch" in said
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not checkpoint.exists()
    assert from_bytes((tmp_path / "whole.safetensors").read_bytes())[0].ema_momentum == 0.99


def wait_for_change(path: Path, process: "subprocess.Popen[str]") -> None:
    """Until the process has written the file anew, so that a slow machine gets on too."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
