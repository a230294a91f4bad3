"""inkling serve | api | worker | backup | restore | train | data: the command line; the rest is in `app.cli_remote`."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from app import cli_remote
from app.cli_base import fail, read_settings, warn_of_misspelled_settings
from app.devices import gpus, places
from app.settings import Settings
from app.supervisor import Program, supervise

if TYPE_CHECKING:
    from model.spec import TrainSpec

app = typer.Typer(
    help="Train digit classifiers and serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_remote.commands)


def main() -> None:
    # For every process, before it imports NumPy: more threads spin as they wait for each other, and round otherwise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()


@app.command()
def serve() -> None:
    """Run the whole service: the API with its page, and a worker for each GPU."""
    settings = read_settings()
    count = _worker_count(settings)
    warn_of_misspelled_settings()
    with _data_dir(settings):
        listening = _listen(settings)
        workers = [
            Program(f"worker {number}", (sys.executable, "-m", "app.worker", "--lifeline"), os.environ)
            for number in range(count)
        ]
        supervise([_api(listening), *workers])


@app.command()
def api() -> None:
    """Run the API with its page alone; workers elsewhere train what it queues in the same database."""
    settings = read_settings()
    warn_of_misspelled_settings()
    with _data_dir(settings):
        listening = _listen(settings)  # open for as long as a process may be started on it
        supervise([_api(listening)])


@app.command()
def worker() -> None:
    """Run a worker alone, on any machine that reaches the database; it takes the machine's next free GPU."""
    from app.slots import NoPlaceError
    from app.worker import main as work

    settings = read_settings("worker")
    warn_of_misspelled_settings()
    with _data_dir(settings):
        try:
            work()
        except NoPlaceError as error:
            fail(str(error))


def _worker_count(settings: Settings) -> int:
    room = places(gpus(), settings.devices_per_worker, settings.workers_per_device)
    if room and settings.workers > room:
        fail(
            f"INKLING_WORKERS: the GPUs here are enough for {room}, not {settings.workers}; 0 starts so many, "
            "and with INKLING_WORKERS_PER_DEVICE they share a GPU"
        )
    return settings.workers or room or 1


def _api(listening: socket.socket) -> Program:
    """Says where it listens; the process that does may end and be started again."""
    host, port = listening.getsockname()[:2]
    print(f"Inkling: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    command = (sys.executable, "-m", "app.main", "--fd", str(listening.fileno()))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}  # the accelerators are the trainers'
    return Program("api", command, environment, (listening.fileno(),))


@app.command("backup")
def back_up(folder: Annotated[Path, typer.Argument(help="Folder to make; it must not be there yet")]) -> None:
    """Copy the SQLite databases of a service, running or not, as they are at one moment."""
    from app import backup

    try:
        backup.back_up(read_settings(), folder)
    except backup.BackupError as error:
        fail(str(error))
    print(f"{folder}: every run and model of this moment")


@app.command()
def restore(folder: Annotated[Path, typer.Argument(help="Folder that `inkling backup` has made")]) -> None:
    """Bring back what was backed up, into a data folder that has no databases yet."""
    from app import backup

    settings = read_settings()
    try:
        backup.restore(settings, folder)
    except backup.BackupError as error:
        fail(str(error))
    print(f"{settings.database}: as it was backed up")


@app.command()
def train(
    spec: Annotated[
        Path | None, typer.Argument(help="JSON file with a spec, as POST /train takes it; - reads stdin")
    ] = None,
    preset: Annotated[str, typer.Option(help="Supplies every field that the spec does not give")] = "tutorial",
    output: Annotated[
        Path | None, typer.Option(help="safetensors file for the trained parameters; here, else model.safetensors")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File that is kept up to date; the same command goes on from it")
    ] = None,
    checkpoint_seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Least seconds between checkpoints; else INKLING_CHECKPOINT_SECONDS")
    ] = None,
    on_service: Annotated[
        bool, typer.Option("--remote", help="Train on the service at INKLING_URL, or on this machine's")
    ] = False,
    url: Annotated[str | None, typer.Option(help="Train on the service there")] = None,
) -> None:
    """Train in this process, without the service, into a file; or on a service, which publishes the model."""
    if on_service or url:
        for option, given in (("--checkpoint", checkpoint), ("--checkpoint-seconds", checkpoint_seconds)):
            if given is not None:
                fail(f"{option}: a service keeps its own")
        _check_files(output, None)
        cli_remote.train({"preset": preset, **_read_json(spec)}, url or os.environ.get("INKLING_URL"), output)
    else:
        output = output or Path("model.safetensors")
        _check_files(output, checkpoint)
        _train_here(_read_spec(spec, preset), output, checkpoint, checkpoint_seconds)


def _train_here(spec: "TrainSpec", output: Path, checkpoint: Path | None, checkpoint_seconds: float | None) -> None:
    from app.cli_local import train as train_here
    from model.checkpoint import CheckpointError
    from model.data import DataUnavailableError
    from model.losses import DivergedError
    from model.memory import NotEnoughMemoryError

    settings = read_settings()
    try:
        every_seconds = settings.checkpoint_seconds if checkpoint_seconds is None else checkpoint_seconds
        train_here(spec, output, checkpoint, every_seconds, settings)
    except (CheckpointError, DataUnavailableError, DivergedError, NotEnoughMemoryError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        os._exit(cli_remote.INTERRUPTED)  # else the interpreter waits for XLA to end its compilation, and crashes then


def _check_files(output: Path | None, checkpoint: Path | None) -> None:
    """Before the training: afterwards it would be too late."""
    for option, path in (("--output", output), ("--checkpoint", checkpoint)):
        if path and not path.absolute().parent.is_dir():
            fail(f"{option}: there is no folder {path.parent}")
        if path and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            fail(f"{option}: {path} cannot be written; give a file in a folder that can be")
    if checkpoint and output and checkpoint.absolute() == output.absolute():
        fail("--checkpoint: give another file than --output; it is deleted at the end")


def _read_spec(path: Path | None, preset: str) -> "TrainSpec":
    from app.schemas import located_message_of, told
    from model.presets import TrainRequest

    given = {"preset": preset, **_read_json(path)}
    try:
        return TrainRequest.model_validate(given).spec()
    except ValidationError as error:
        fail("\n".join(map(located_message_of, told(error.errors(), given))))


def _read_json(path: Path | None) -> dict[str, Any]:
    try:
        return {} if path is None else {**json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())}
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        fail(f"{path}: not a JSON object: {error}")


@app.command()
def data() -> None:
    """Fetch MNIST into the cache."""
    from model.data import DataUnavailableError, load_mnist

    try:
        mnist = load_mnist(read_settings().cache_dir)
    except DataUnavailableError as error:
        fail(str(error))
    print(f"{len(mnist.train):,} training and {len(mnist.test):,} test images")


@contextmanager
def _data_dir(settings: Settings) -> Iterator[None]:
    """The data folder can be written, and no backup is restored into it meanwhile."""
    from app import backup

    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        fail(f"INKLING_DATA_DIR: cannot write to {settings.data_dir}: {error.strerror}")
    try:
        with backup.held(settings):
            yield
    except backup.BackupError as error:
        fail(str(error))


def _listen(settings: Settings) -> socket.socket:
    """Bound here, before any process starts: a restarted API takes over the same socket, and no connection is lost."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        fail(f"INKLING_HOST, INKLING_PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}")


if __name__ == "__main__":
    main()
