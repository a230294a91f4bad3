"""What every process logs, and how its lines look."""

import logging

from app.settings import Settings

QUIET = ("alembic", "dbos", "httpx", "jax")  # heard from WARNING on: what they say below is of use to their makers


def configure(process: str, settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format=f"%(asctime)s {process} %(levelname)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("dbos").addFilter(_is_no_cancellation)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """DBOS reports a cancelled run as an error with a traceback; here it is a user's everyday wish."""
    cancelled = record.exc_info and type(record.exc_info[1]).__name__ == "DBOSAwaitedWorkflowCancelledError"
    return not cancelled and "no longer owned by this execution" not in record.getMessage()
