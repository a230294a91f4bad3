"""What every process logs, and how its lines look."""

import logging

from app.settings import Settings

CHATTY = ("dbos", "httpx", "jax")  # they report their own start-up as information


def configure(process: str, settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format=f"%(asctime)s {process} %(levelname)s %(message)s")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
