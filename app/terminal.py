"""What the command line shows: a training's progress on stderr; predictions, runs, models and reports on stdout."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from app.model_schemas import LeaderboardEntry, ModelEvaluation, ModelInfo
from app.predict_schemas import Prediction
from app.schemas import RunSummary
from model.reports import EpochReport, StepReport

UNBOUNDED = 10_000  # columns: a table that is piped into a program is not cut


class TrainingBar:
    """A bar that moves with the training, above it a line for each epoch."""

    def __init__(self, name: str, *, shown: bool = True) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, quiet=not shown),
            disable=not shown,
        )
        self._task = self._progress.add_task(_printable(name), total=None, said="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.update(self._task, said=text)

    def show(self, report: StepReport | EpochReport) -> None:
        if isinstance(report, StepReport):
            self._progress.update(self._task, completed=report.step, total=report.steps, said=_progress(report))
        else:
            self._progress.console.print(_epoch(report))


def _progress(report: StepReport) -> str:
    phase = getattr(report, "phase", "training")
    loss = "" if report.loss is None else f"  loss {report.loss:.4f}"
    accuracy = "" if report.accuracy is None else f"  accuracy {report.accuracy:.2%}"
    return f"epoch {report.epoch}/{report.epochs}{loss}{accuracy}" if phase == "training" else phase


def _epoch(report: EpochReport) -> str:
    held_out = "" if report.validation is None else f"  validation accuracy {report.validation.accuracy:.2%}"
    scores = f"loss {report.loss:.4f}  accuracy {report.accuracy:.2%}{held_out}"
    return f"epoch {report.epoch}: {scores}  {report.seconds:.1f} s"


def show_prediction(file: str, prediction: Prediction) -> None:
    doubt = "" if prediction.is_digit else "  not a digit?"
    print(f"{_printable(file)}: {prediction.digit}  {_sureness(prediction.confidence)}{doubt}")


def show_runs(runs: Iterable[RunSummary]) -> None:
    table = _table("run", "name", "state", "asked for", "epoch", "model")
    for run in runs:
        epoch = f"{run.progress.epoch}/{run.progress.epochs}" if run.progress else ""
        place = f", place {run.queue_position}" if run.queue_position else ""
        asked_for = _time(run.created_at) + (f" by {run.user}" if run.user else "")
        _add(table, run.id, run.name, f"{run.state}{place}", asked_for, epoch, run.model or run.error or "")
    _print(table)


def show_models(models: Iterable[ModelInfo]) -> None:
    table = _table("model", "name", "accuracy", "loss", "parameters", "published", "aliases", right=(2, 3, 4))
    for model in models:
        scores = (f"{model.scores.accuracy:.2%}", f"{model.scores.loss:.4f}", f"{model.parameters:,}")
        aliases = ", ".join(model.aliases) + (" (pinned)" if model.pinned else "")
        _add(table, model.id, model.name, *scores, _time(model.created_at), aliases)
    _print(table)


def show_leaderboard(entries: Iterable[LeaderboardEntry]) -> None:
    table = _table("", "model", "name", "accuracy", "loss", "parameters", right=(0, 3, 4, 5))
    for place, entry in enumerate(entries, 1):
        scores = (f"{entry.accuracy:.2%}", f"{entry.loss:.4f}", f"{entry.parameters:,}")
        _add(table, str(place), entry.model, entry.name, *scores)
    _print(table)


def show_report(report: ModelEvaluation) -> None:
    """The means, then a row for each digit with those that it is most often taken for."""
    error = report.calibration.expected_calibration_error
    print(f"{report.model}: accuracy {report.accuracy:.2%}, loss {report.loss:.4f}, calibration error {error:.2%}")
    table = _table("digit", "precision", "recall", "F1", "images", "taken for", right=(0, 1, 2, 3, 4))
    for row, counts in zip(report.per_class, report.confusion_matrix, strict=True):
        scores = (f"{row.precision:.2%}", f"{row.recall:.2%}", f"{row.f1:.2%}", f"{row.support:,}")
        _add(table, str(row.digit), *scores, _taken_for(row.digit, counts))
    _print(table)


def _sureness(confidence: float) -> str:
    """Never rounded to a certainty."""
    return f"{confidence:.1%}" if confidence <= 0.999 else "> 99.9%"


def _taken_for(digit: int, counts: Sequence[int]) -> str:
    wrong = sorted((-count, other) for other, count in enumerate(counts) if other != digit and count)
    return ", ".join(f"{other} ({-count}×)" for count, other in wrong[:3])


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(_printable(cell)) for cell in cells))


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else UNBOUNDED).print(table)


def _printable(text: str) -> str:
    """Names are other people's: none of them moves the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
