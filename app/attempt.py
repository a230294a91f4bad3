"""What a trainer does for a run."""

import logging
import signal
import threading
import time
from collections.abc import Callable

from pydantic import BaseModel

from app.checkpoints import Checkpoints
from app.database import UNAVAILABLE, Database, retrying
from app.registry import Registry
from app.schemas import Phase, Progress, RunEnd, RunState
from app.settings import Settings
from model.checkpoint import CheckpointError
from model.data import TRAIN_EXAMPLES, DataUnavailableError, Mnist, examples_left, load_mnist
from model.finish import Finished, finished, salvaged
from model.losses import DivergedError
from model.memory import NotEnoughMemoryError, advised_on_memory
from model.plan import total_steps
from model.reports import Checkpoint, EpochReport, FitResult, StepReport
from model.resume import SavedTraining, from_bytes
from model.scores import MeanScores
from model.spec import TrainSpec
from model.train import fit

PROGRESS_SECONDS = 0.25

Send = Callable[[str, BaseModel], None]  # a message, by its kind

_log = logging.getLogger(__name__)


class Attempt:
    """One attempt at a run, from its checkpoint or from the start, to its model."""

    def __init__(
        self, run: str, number: int, spec: TrainSpec, database: Database, settings: Settings, send: Send
    ) -> None:
        self._run_id, self._number, self._spec, self._settings, self._send = run, number, spec, settings, send
        self._registry, self._checkpoints = Registry(database), Checkpoints(database)
        self._saved: SavedTraining | None = None
        self._note: str | None = None
        self._steps = total_steps(spec, examples_left(TRAIN_EXAMPLES, spec.validation_split))
        self._epochs_done = 0
        self._stop = threading.Event()

    def run(self) -> RunEnd | None:
        """Publishes what it has trained; of a training that diverged, parameters from before.

        None: it was stopped, and its checkpoint is saved. Raises SupersededError.
        """
        if model := retrying(lambda: self._registry.succeeded_with(self._run_id)):  # its end alone was lost
            return RunEnd(state=RunState.SUCCEEDED, model=model)
        self._saved, self._note = _saved(retrying(lambda: self._checkpoints.load(self._run_id)), self._spec)
        journal = self._saved.journal if self._saved else None
        self._send_phase("preparing", epoch=journal.epoch if journal else 1, step=journal.step if journal else 0)
        try:
            mnist = load_mnist(self._settings.cache_dir)
            with advised_on_memory(self._spec):  # to save a checkpoint takes some, too
                result = self._fit(mnist)
            if result is None:
                return None
            self._send_phase("evaluating", epoch=self._epochs_done, step=self._steps // self._spec.epochs)
            cache_dir = self._settings.cache_dir
            trained = finished(result.parameters, self._spec, mnist, cache_dir, last_good=result.last_good)
            model = self._publish(trained, result.validation)
            return RunEnd(state=RunState.SUCCEEDED, model=model)
        except DivergedError as error:
            kept = salvaged(error, self._spec, mnist, self._settings.cache_dir)
            model = self._publish(kept, None, diverged=True) if kept else None
            return RunEnd(state=RunState.FAILED, error=str(error), model=model)
        except (DataUnavailableError, NotEnoughMemoryError) as error:
            return RunEnd(state=RunState.FAILED, error=str(error))

    def _fit(self, mnist: Mnist) -> FitResult | None:
        """Sends every epoch, and of the steps so many a second as a person can follow. None: it was stopped."""
        for epoch in self._saved.journal.history if self._saved else []:
            self._send("epoch", epoch)
        sent = -PROGRESS_SECONDS
        for report in fit(
            self._spec,
            mnist.train,
            saved=self._saved,
            checkpoint_seconds=self._settings.checkpoint_seconds,
            stop=self._stop,
        ):
            match report:
                case FitResult():
                    return report
                case EpochReport():
                    self._send("epoch", report)
                    self._epochs_done = report.epoch
                case Checkpoint(data):
                    self._save(data)
                case StepReport() if time.monotonic() - sent >= PROGRESS_SECONDS:
                    # Before the first step there is nothing to save, and nothing to wait for.
                    signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
                    self._send("progress", Progress(phase="training", note=self._note, **report.model_dump()))
                    sent = time.monotonic()
        return None

    def _save(self, checkpoint: bytes) -> None:
        """A checkpoint that cannot be saved costs nothing but a longer way back; the training goes on."""
        try:
            self._checkpoints.save(self._run_id, self._number, checkpoint)
        except UNAVAILABLE as error:
            _log.warning("no checkpoint was saved: %s", error.args[0])

    def _publish(self, trained: Finished, validation: MeanScores | None, *, diverged: bool = False) -> str:
        return retrying(
            lambda: self._registry.publish(
                self._run_id,
                self._spec,
                trained.data,
                trained.evaluation,
                validation,
                attempt=self._number,
                diverged=diverged,
            )
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
    return saved, f"taken up again {saved.journal.place}"
