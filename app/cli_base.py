"""What every command of the command line begins with, and how it says what is wrong."""

import logging
import os
import sys
from difflib import get_close_matches
from typing import NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app import logs
from app.settings import Settings

PREFIX = Settings.model_config["env_prefix"]
OF_CLIENTS = {"url", "key"}

_log = logging.getLogger(__name__)


def read_settings(process: str = "inkling") -> Settings:
    """process: what it is called in the log."""
    try:
        settings = Settings()
    except ValidationError as error:
        fail("\n".join(map(_setting_and_message, error.errors())))
    logs.configure(process, settings)
    return settings


def warn_of_misspelled_settings() -> None:
    """One letter may be the difference between a service that asks for keys and one that does not."""
    given = {name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)}
    for name in sorted(given - {*Settings.model_fields} - OF_CLIENTS):
        meant = [_variable(setting) for setting in get_close_matches(name, Settings.model_fields, 1)]
        advice = f"; is {meant[0]} meant?" if meant else ""
        _log.warning("%s is no setting, and is ignored%s", _variable(name), advice)


def _variable(setting: str) -> str:
    return f"{PREFIX}{setting.upper()}"


def _setting_and_message(error: ErrorDetails) -> str:
    from app.schemas import message_of

    setting, *path = map(str, error["loc"])
    return ": ".join((_variable(setting), *path, message_of(error)))


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(status)
