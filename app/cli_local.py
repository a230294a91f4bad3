"""inkling train: one training in this process, from a spec to a file, without the service.

On several hosts, the same command on each is one training over all their devices; the first host writes the files
and says how it goes.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from app.settings import Settings
from app.terminal import TrainingBar
from model.checkpoint import CheckpointError, DamagedError
from model.compilation import configure_jax
from model.data import load_mnist
from model.files import write_atomically
from model.finish import finished, salvaged
from model.losses import DivergedError
from model.reports import Checkpoint, FitResult, Report
from model.resume import SavedTraining, from_bytes
from model.spec import TrainSpec
from model.train import fit


def train(spec: TrainSpec, output: Path, checkpoint: Path | None, every_seconds: float, settings: Settings) -> None:
    """Writes the trained parameters to `output`; goes on from `checkpoint` where it is there, and keeps it up to date.

    Raises DivergedError once parameters from before are written, CheckpointError for a checkpoint of another
    training, DataUnavailableError and NotEnoughMemoryError.
    """
    configure_jax(settings.cache_dir)
    _connect(settings)
    mnist = load_mnist(settings.cache_dir)
    saved = _saved(checkpoint, spec)
    reports = fit(spec, mnist.train, saved=saved, checkpoint_seconds=every_seconds if checkpoint else math.inf)
    try:
        result = _show(reports, spec.name, checkpoint)
        data, evaluation = finished(result.parameters, spec, mnist, settings.cache_dir, last_good=result.last_good)
    except DivergedError as error:
        if kept := salvaged(error, spec, mnist, settings.cache_dir):
            _write(output, kept.data)
            raise DivergedError(f"{error}; {output} has the parameters from before that") from None
        raise DivergedError(f"{error}; there is nothing to keep") from None
    _write(output, data)
    if jax.process_index() == 0:
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
        print(f"{output}: {evaluation.accuracy:.2%} of MNIST's 10,000 test images named right")


def _connect(settings: Settings) -> None:
    if settings.coordinator:
        jax.distributed.initialize(settings.coordinator, settings.processes, settings.process)


def _saved(checkpoint: Path | None, spec: TrainSpec) -> SavedTraining | None:
    if checkpoint is None or not checkpoint.exists():
        return None
    try:
        saved = from_bytes(checkpoint.read_bytes(), spec)
    except DamagedError as error:
        _say(f"{checkpoint}: {error}; starting over")
        return None
    except CheckpointError as error:
        raise CheckpointError(f"--checkpoint: {checkpoint}: {error}; give another file, or delete it") from None
    _say(f"{checkpoint}: going on {saved.journal.place}")
    return saved


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr)


def _show(reports: Iterator[Report], name: str, checkpoint: Path | None) -> FitResult:
    with TrainingBar(name, shown=jax.process_index() == 0) as bar:
        for report in reports:
            if isinstance(report, FitResult):
                return report
            if isinstance(report, Checkpoint):
                assert checkpoint is not None, "without a file, none is made"
                _write(checkpoint, report.data)
            else:
                bar.show(report)
    raise AssertionError("a training that nobody stops has a result")


def _write(path: Path, body: bytes) -> None:
    if jax.process_index() == 0:
        write_atomically(path, body)
