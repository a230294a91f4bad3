"""python -m app.trainer RUN: trains one run in this process, which owns the accelerator, and publishes its model.

Reads the spec as one line of JSON from standard input and writes one JSON message a line to standard output:
{"kind": "progress" | "epoch" | "end", "data": {...}}. Ends when standard input closes.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from pydantic import BaseModel

from app import logs
from app.checkpoints import Checkpoints
from app.lifeline import end_with_parent
from app.registry import Registry
from app.schemas import Phase, Progress, RunEnd, RunState
from app.settings import Settings
from model.checkpoint import CheckpointError
from model.compilation import use_compilation_cache
from model.data import TRAIN_EXAMPLES, DataUnavailableError, Mnist, examples_left, load_mnist
from model.evaluate import evaluate
from model.losses import DivergedError
from model.memory import NotEnoughMemoryError
from model.plan import total_steps
from model.reports import Checkpoint, EpochReport, FitResult, StepReport
from model.resume import SavedTraining, from_bytes
from model.spec import TrainSpec
from model.train import fit

PROGRESS_SECONDS = 0.25

Send = Callable[[str, BaseModel], None]

_log = logging.getLogger(__name__)


def main(run: str) -> None:
    send = _sender(_take_stdout())
    settings = Settings()
    logs.configure("trainer", settings)
    spec = TrainSpec.model_validate_json(sys.stdin.readline())
    end_with_parent()
    use_compilation_cache(settings.cache_dir)
    registry, checkpoints = Registry(settings.registry_path), Checkpoints(settings.registry_path)
    send("end", Training(run, spec, registry, checkpoints, settings, send).run())


def _take_stdout() -> TextIO:
    """The pipe to the worker. What a library prints goes to standard error instead."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return messages


def _sender(messages: TextIO) -> Send:
    def send(kind: str, data: BaseModel) -> None:
        messages.write(json.dumps({"kind": kind, "data": data.model_dump(mode="json")}) + "\n")

    return send


class Training:
    """One run, from its checkpoint or from the start, to its model."""

    def __init__(
        self, run: str, spec: TrainSpec, registry: Registry, checkpoints: Checkpoints, settings: Settings, send: Send
    ) -> None:
        self._id, self._spec, self._settings, self._send = run, spec, settings, send
        self._registry, self._checkpoints = registry, checkpoints
        self._saved, self._note = _saved(checkpoints.load(run), spec)
        self._steps = total_steps(spec, examples_left(TRAIN_EXAMPLES, spec.validation_split))
        self._epochs_done = 0

    def run(self) -> RunEnd:
        """Publishes what it has trained; of a training that diverged, the last parameters that were finite."""
        journal = self._saved.journal if self._saved else None
        self._send_phase("preparing", epoch=journal.epoch if journal else 1, step=journal.step if journal else 0)
        try:
            mnist = load_mnist(self._settings.cache_dir)
            result = self._fit(mnist)
        except DivergedError as error:
            last_good = error.last_good
            model = self._publish(FitResult(last_good, None), mnist, diverged=True) if last_good else None
            return RunEnd(state=RunState.FAILED, error=str(error), model=model)
        except (DataUnavailableError, NotEnoughMemoryError) as error:
            return RunEnd(state=RunState.FAILED, error=str(error))
        self._send_phase("evaluating", epoch=self._epochs_done, step=self._steps // self._spec.epochs)
        return RunEnd(state=RunState.SUCCEEDED, model=self._publish(result, mnist))

    def _fit(self, mnist: Mnist) -> FitResult:
        """Sends every epoch, and of the steps so many a second as a person can follow."""
        for epoch in self._saved.journal.history if self._saved else []:
            self._send("epoch", epoch)
        sent = -PROGRESS_SECONDS
        for report in fit(
            self._spec, mnist.train, saved=self._saved, checkpoint_seconds=self._settings.checkpoint_seconds
        ):
            match report:
                case FitResult():
                    return report
                case EpochReport():
                    self._send("epoch", report)
                    self._epochs_done = report.epoch
                case Checkpoint(data):
                    self._checkpoints.save(self._id, data)
                case StepReport() if time.monotonic() - sent >= PROGRESS_SECONDS:
                    self._send("progress", Progress(phase="training", note=self._note, **report.model_dump()))
                    sent = time.monotonic()
        raise AssertionError("fit ends with a FitResult")

    def _publish(self, result: FitResult, mnist: Mnist, *, diverged: bool = False) -> str:
        evaluation = evaluate(result.parameters, mnist.test, self._spec)
        return self._registry.publish(
            self._id, self._spec, result.parameters, evaluation, result.validation, diverged=diverged
        )

    def _send_phase(self, phase: Phase, *, epoch: int, step: int = 0) -> None:
        """After so many steps of the epoch."""
        epochs = self._spec.epochs
        done = (epoch - 1) * (self._steps // epochs) + step
        self._send(
            "progress",
            Progress(phase=phase, note=self._note, epoch=epoch, epochs=epochs, step=done, steps=self._steps),
        )


def _saved(data: bytes | None, spec: TrainSpec) -> tuple[SavedTraining | None, str | None]:
    """The training that a worker left before its end, if there is one, and a note of what becomes of it."""
    if data is None:
        return None, None
    try:
        saved = from_bytes(data, spec)
    except CheckpointError as error:
        _log.warning("started over: %s", error)
        return None, f"started over: {error}"
    return saved, f"taken up again in epoch {saved.journal.epoch}"


if __name__ == "__main__":
    main(sys.argv[1])
