"""Training: fit(), a generator of reports."""

import math
import threading
import time
from collections.abc import Iterator

from model.data import Dataset
from model.memory import advised_on_memory
from model.reports import Checkpoint, Report
from model.resume import SavedTraining, to_bytes
from model.spec import TrainSpec
from model.training import Training

CHECKPOINT_SHARE = 0.02  # of the time, at most, that checkpoints may take


def fit(
    spec: TrainSpec,
    dataset: Dataset,
    *,
    saved: SavedTraining | None = None,
    checkpoint_seconds: float = math.inf,
    stop: threading.Event | None = None,
) -> Iterator[Report]:
    """Trains the spec's network; yields a StepReport every chunk, an EpochReport every epoch, at last a FitResult.

    dataset: the training images; the spec's validation split is held out of them. A Checkpoint comes every
    checkpoint_seconds, or less often where more would cost over CHECKPOINT_SHARE of the time; `resume.from_bytes` makes
    of it the `saved` with which another fit goes on to the same bits. Closing the generator stops the training after
    the chunk in flight; so does setting `stop`, with a last Checkpoint and no result. The same spec on the same
    `hardware` gives the same bits, on a GPU if `configure_jax` was called.
    Raises DivergedError when the loss is no longer finite, and NotEnoughMemoryError, before the first step if it can.
    """
    with advised_on_memory(spec):
        training = Training(spec, dataset, saved)
        checkpoints = _Checkpoints(checkpoint_seconds)
        while not training.finished:
            for report in training.run_epoch():
                yield report
                if stop and stop.is_set():
                    yield checkpoints.of(training)
                    return
                yield from checkpoints.when_due(training)
            yield training.end_epoch()
        yield training.result()


class _Checkpoints:
    """When to make a checkpoint: in step with the clock, and seldom enough to cost next to nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def when_due(self, training: Training) -> Iterator[Checkpoint]:
        """The yield takes as long as the caller takes to store the checkpoint, and counts as its cost."""
        if (started := time.monotonic()) < self._due:
            return
        yield self.of(training)
        ended = time.monotonic()
        self._due = ended + max(self._seconds, (ended - started) / CHECKPOINT_SHARE)

    def of(self, training: Training) -> Checkpoint:
        return Checkpoint(to_bytes(training.saved(), training.spec))
