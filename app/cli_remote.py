"""inkling predict | evaluate | models | runs | watch | cancel: the commands that talk to a running service.

The service is at --url, else at INKLING_URL, else where INKLING_HOST and INKLING_PORT let one listen on this machine;
it is sent the key in INKLING_KEY.
"""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli_base import fail, read_settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.client import Inkling
    from app.schemas import Run, RunEnd

INTERRUPTED = 130  # the shell's status for what Ctrl-C has ended

commands = typer.Typer()

Url = Annotated[
    str | None,
    typer.Option(
        envvar="INKLING_URL", show_envvar=False, help="The service; else INKLING_URL, or the one on this machine"
    ),
]
Sort = Literal["created_at", "name", "accuracy", "loss", "parameters"]  # as `app.model_schemas` has it
Json = Annotated[bool, typer.Option("--json", help="Print what the service answers, one JSON object a line")]
RunId = Annotated[str, typer.Argument(help="A run's id")]


@commands.command()
def predict(
    files: Annotated[list[str], typer.Argument(help="PNG, JPEG or WebP files; - reads one from stdin")],
    model: Annotated[str | None, typer.Option(help="A model's id or alias; else the default")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Say which digit each of some image files shows."""
    from app.client import ServiceError
    from app.terminal import show_prediction

    failed = 0
    with _service(url) as inkling:
        for file in files:
            try:
                prediction = inkling.predict(_read(file), model=model)
            except OSError as error:
                failed += _complain(file, error.strerror)
            except ServiceError as error:
                if not any(wrong.loc[:1] == ["body"] for wrong in error.errors):  # no other file would do better
                    raise
                failed += _complain(file, error.errors[0].msg)
            else:
                _print_line(prediction, file=file) if json else show_prediction(file, prediction)
    if failed:
        raise typer.Exit(1)


@commands.command()
def evaluate(
    model: Annotated[str | None, typer.Argument(help="A model's id or alias; without one, all are compared")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Show the leaderboard of all models, or the full report on one."""
    from app.terminal import show_leaderboard, show_report

    with _service(url) as inkling:
        if model is None:
            entries = inkling.leaderboard()
            _print_lines(entries) if json else show_leaderboard(entries)
        else:
            report = inkling.evaluate(model)
            _print_line(report) if json else show_report(report)


@commands.command()
def models(
    name: Annotated[str | None, typer.Option(help="Only those with it in their name")] = None,
    sort: Annotated[Sort, typer.Option(help="The newest, best or largest first; names from A on")] = "created_at",
    url: Url = None,
    json: Json = False,
) -> None:
    """List the models, newest first unless asked otherwise."""
    from app.terminal import show_models

    with _service(url) as inkling:
        found = inkling.models(name=name, sort=sort)
        _print_lines(found) if json else show_models(found)


@commands.command()
def runs(
    limit: Annotated[int, typer.Option(min=1, help="How many")] = 20,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only those queued, running, succeeded, failed or cancelled; repeated, in any of them"),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's, where the service has keys")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """List the runs, newest first."""
    from app.terminal import show_runs

    with _service(url) as inkling:
        found = list(itertools.islice(inkling.runs(states=state or (), user=user), limit))
        _print_lines(found) if json else show_runs(found)


@commands.command()
def watch(run: RunId, url: Url = None) -> None:
    """Show a run as it trains, until it ends. Ctrl-C ends the showing, not the run."""
    with _service(url) as inkling:
        _tell_end(inkling, run, _watch(inkling, inkling.run(run)))


@commands.command()
def cancel(run: RunId, url: Url = None) -> None:
    """End a queued or running run."""
    with _service(url) as inkling:
        print(f"{run}: {inkling.cancel(run).state}")


def train(spec: dict[str, Any], url: str | None, output: Path | None) -> None:
    """Queues a run of the spec, shows it to its end, and writes its model to `output`."""
    with _service(url) as inkling:
        run = inkling.train(spec)
        end = _watch(inkling, run)
        _tell_end(inkling, run.id, end)
        if output and end.model:
            _write(inkling, end.model, output)


@contextmanager
def _service(url: str | None) -> "Iterator[Inkling]":
    from app.client import ClientError, Inkling, ServiceError

    try:
        with Inkling(url or _url_here(), key=os.environ.get("INKLING_KEY")) as inkling:
            yield inkling
    except ServiceError as error:
        fail(f"{error}; a command sends the key in INKLING_KEY" if error.status == 401 else str(error))
    except ClientError as error:
        fail(str(error))


def _url_here() -> str:
    """Where a service with these settings listens; loopback stands for every address of this machine."""
    settings = read_settings()
    if settings.port == 0:
        fail("INKLING_PORT is 0, which is any free port: say with --url or INKLING_URL where the service is")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _watch(inkling: "Inkling", run: "Run") -> "RunEnd":
    """How the run has ended."""
    from app.client import UnreachableError
    from app.schemas import RunEnd
    from app.terminal import TrainingBar

    try:
        with TrainingBar(run.name) as bar:
            bar.say(f"waiting, place {run.queue_position}" if run.queue_position else run.state)
            for event in inkling.watch(run):
                if isinstance(event, RunEnd):
                    return event
                bar.show(event)
    except KeyboardInterrupt:
        fail(_how_to_go_on(run.id), INTERRUPTED)
    except UnreachableError as error:
        fail(f"{error}; {_how_to_go_on(run.id)}")
    raise AssertionError("a watched run ends")


def _how_to_go_on(run: str) -> str:
    return f"run {run} goes on: `inkling watch {run}` shows it, `inkling cancel {run}` ends it"


def _tell_end(inkling: "Inkling", run: str, end: "RunEnd") -> None:
    if end.state != "succeeded" or end.model is None:
        kept = f"; model {end.model} has the parameters from before that" if end.model else ""
        fail(f"run {run} {end.state}{f': {end.error}' if end.error else ''}{kept}")
    accuracy = inkling.model(end.model).scores.accuracy
    print(f"model {end.model}: {accuracy:.2%} of MNIST's 10,000 test images named right")


def _write(inkling: "Inkling", model: str, output: Path) -> None:
    try:
        inkling.download(model, output)
    except OSError as error:
        fail(f"--output: {output}: {error.strerror}; the service keeps the model")


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _complain(file: str, wrong: str | None) -> int:
    print(f"{file}: {wrong}", file=sys.stderr)
    return 1


def _print_lines(answers: "Iterable[BaseModel]") -> None:
    for answer in answers:
        _print_line(answer)


def _print_line(answer: "BaseModel", **beside: str) -> None:
    from pydantic_core import to_json

    print(to_json({**beside, **answer.model_dump(exclude_unset=True)}).decode())
