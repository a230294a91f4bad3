"""What every command of the command line begins with, and how it says what is wrong."""

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError

from app import logs
from app.settings import Settings


def read_settings(process: str = "inkling") -> Settings:
    """process: what it is called in the log."""
    try:
        settings = Settings()
    except ValidationError as error:
        from app.schemas import message_of

        fail("\n".join(f"INKLING_{str(item['loc'][0]).upper()}: {message_of(item)}" for item in error.errors()))
    logs.configure(process, settings)
    return settings


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(status)
