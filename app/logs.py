"""What every process logs, and how its lines look."""

import logging

from app.settings import Settings

QUIET = ("dbos", "httpx", "jax")  # heard from WARNING on: what they say below is of use to their makers


def configure(process: str, settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format=f"%(asctime)s {process} %(levelname)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
