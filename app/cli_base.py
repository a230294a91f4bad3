"""What every command of the command line begins with, and how it says what is wrong."""

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app import logs
from app.settings import Settings


def read_settings(process: str = "inkling") -> Settings:
    """process: what it is called in the log."""
    try:
        settings = Settings()
    except ValidationError as error:
        fail("\n".join(map(_setting_and_message, error.errors())))
    logs.configure(process, settings)
    return settings


def _setting_and_message(error: ErrorDetails) -> str:
    from app.schemas import message_of

    setting, *path = map(str, error["loc"])
    return ": ".join((f"INKLING_{setting.upper()}", *path, message_of(error)))


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(status)
