"""The checkpoint of each run that is under way, one row a run, and the number of its attempt, which fences it.

Every worker that takes a run begins a new attempt. From then on whatever an older one still tries to save or publish
is refused: a process that slept through its own replacement does no harm when it wakes.
"""

import sqlalchemy as sa

from app.database import Database, metadata
from app.errors import SupersededError

_checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary),  # none yet where it is null
)
_BEGIN = sa.text(
    "INSERT INTO checkpoints (run, attempt) VALUES (:run, 1)"
    " ON CONFLICT (run) DO UPDATE SET attempt = checkpoints.attempt + 1 RETURNING attempt"
)


class Checkpoints:
    """Bytes that `model.resume` makes and reads; their checksum is among them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run: str) -> int:
        """The number of the attempt that begins now."""
        with self._database.writing() as connection:
            return int(connection.scalar(_BEGIN, {"run": run}))

    def save(self, run: str, attempt: int, data: bytes) -> None:
        """Raises SupersededError when the run has been taken over, or has ended."""
        with self._database.writing() as connection:
            saved = connection.execute(_checkpoints.update().where(*_of(run, attempt)).values(data=data))
            if saved.rowcount == 0:
                raise SupersededError(run, attempt)

    def load(self, run: str) -> bytes | None:
        """The run's newest checkpoint, as `model.resume` wrote it; None before the first."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(_checkpoints.c.data).where(_checkpoints.c.run == run))

    def runs(self) -> list[str]:
        """Every run that an attempt or a checkpoint is kept of."""
        with self._database.reading() as connection:
            return list(connection.scalars(sa.select(_checkpoints.c.run)))

    def delete(self, run: str, attempt: int | None = None) -> None:
        """Deletes an ended attempt's checkpoint, or an ended run's where none is named; a newer attempt's stays."""
        with self._database.writing() as connection:
            connection.execute(_checkpoints.delete().where(*_of(run, attempt)))


def require_attempt(connection: sa.Connection, run: str, attempt: int) -> None:
    """Within a transaction: the attempt is the run's newest until it ends. Raises SupersededError."""
    held = sa.select(_checkpoints.c.attempt).where(*_of(run, attempt)).with_for_update(read=True)
    if connection.scalar(held) is None:
        raise SupersededError(run, attempt)


def end_attempt(connection: sa.Connection, run: str) -> None:
    """Within a transaction: whatever is under way is refused from now on; the checkpoint stays."""
    ended = _checkpoints.update().where(_checkpoints.c.run == run)
    connection.execute(ended.values(attempt=_checkpoints.c.attempt + 1))


def _of(run: str, attempt: int | None) -> list[sa.ColumnElement[bool]]:
    newest = [] if attempt is None else [_checkpoints.c.attempt == attempt]
    return [_checkpoints.c.run == run, *newest]
