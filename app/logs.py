"""What every process logs, and how its lines look."""

import logging
import sys

from app.settings import Settings

QUIET = ("alembic", "dbos", "httpx", "jax")  # heard from WARNING on: what they say below is of use to their makers
_CANCELLED = ("was cancelled during execution", "no longer owned by this execution")
# As in app.database, which not every process loads.
_AWAY = ("OperationalError", "InterfaceError", "TimeoutError", "InternalError")


def configure(process: str, settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format=f"%(asctime)s {process} %(levelname)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level]))
    for edit in (_is_no_cancellation, _is_brief_about_outages):
        logging.getLogger("dbos").addFilter(edit)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """DBOS reports a cancelled run as an error with a traceback; here it is a user's everyday wish."""
    cancelled = record.exc_info and type(record.exc_info[1]).__name__ == "DBOSAwaitedWorkflowCancelledError"
    return not (cancelled or any(said in record.getMessage() for said in _CANCELLED))


def _is_brief_about_outages(record: logging.LogRecord) -> bool:
    """DBOS tells of every try at a database that is away, or full, with a traceback; one line will do."""
    error = sys.exc_info()[1]
    if type(error).__name__ in _AWAY:
        said = record.getMessage().partition("\n")[0].removesuffix("Traceback (most recent call last):").strip()
        reason = str(error).partition("\n")[0] or type(error).__name__
        record.msg = said if reason in said else f"{said} {reason}"
        record.args, record.exc_info = (), None
    return True
