"""inkling serve | worker | data: the command line."""

import os
import socket
import sys

import typer
from pydantic import ValidationError

from app import logs
from app.settings import Settings
from app.supervisor import Program, supervise

app = typer.Typer(help="Train digit classifiers and serve them.", no_args_is_help=True, add_completion=False)


def main() -> None:
    app()


@app.command()
def serve() -> None:
    """Run the whole service: the API with its page, and a worker."""
    settings = _settings()
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    print(f"Inkling: http://{host}:{port}", flush=True)
    supervise(
        [
            Program(
                "api",
                (sys.executable, "-m", "app.main", "--fd", str(listening.fileno())),
                {**os.environ, "JAX_PLATFORMS": "cpu"},  # the accelerator is the trainer's
                (listening.fileno(),),
            ),
            Program("worker", (sys.executable, "-m", "app.worker"), os.environ),
        ]
    )


@app.command()
def worker() -> None:
    """Run a worker alone, beside others on the same data."""
    from app.worker import main as work

    _settings()
    work()


@app.command()
def data() -> None:
    """Fetch MNIST into the cache."""
    from model.data import load_mnist

    mnist = load_mnist(_settings().cache_dir)
    print(f"{len(mnist.train):,} training and {len(mnist.test):,} test images")


def _settings() -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            print(f"INKLING_{str(item['loc'][0]).upper()}: {item['msg']}", file=sys.stderr)
        raise typer.Exit(2) from None
    logs.configure("inkling", settings)
    return settings


def _listen(settings: Settings) -> socket.socket:
    """Bound here, before any process starts: a restarted API takes over the same socket, and no connection is lost."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=1024)
    except OSError as error:
        print(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
