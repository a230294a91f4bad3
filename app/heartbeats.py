"""Which workers live: each counts its beats in a row of its own, and whose count stands still is dead.

Nobody's clock is compared with another's: whoever looks measures by its own, monotonic one how long a count has
stood still while the database was within reach all the time. A clock that jumps, or a database that was away, makes
no living worker look dead.
"""

from typing import NamedTuple

import sqlalchemy as sa

from app.database import Database, metadata
from app.devices import CPU

_workers = sa.Table(
    "workers",
    metadata,
    sa.Column("executor", sa.String(200), primary_key=True),
    sa.Column("beats", sa.BigInteger, nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("device", sa.String(255), nullable=False),
)


class Heartbeats:
    """The rows of all workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, executor: str, host: str, slot: int, device: str) -> None:
        """Counts from 0, whatever an earlier worker in this place has left."""
        row = {"executor": executor, "beats": 0, "host": host, "slot": slot, "device": device}
        with self._database.writing() as connection:
            connection.execute(_workers.delete().where(_workers.c.executor == executor))
            connection.execute(_workers.insert().values(row))

    def beat(self, executor: str) -> bool:
        """False: the others have declared this worker dead."""
        with self._database.writing() as connection:
            row = _workers.update().where(_workers.c.executor == executor)
            return connection.execute(row.values(beats=_workers.c.beats + 1)).rowcount > 0

    def counts(self) -> dict[str, int]:
        """Each worker's beats, by its executor."""
        with self._database.reading() as connection:
            return {row.executor: row.beats for row in connection.execute(sa.select(_workers))}

    def backend(self) -> str:
        """What the workers train on, as JAX names it: "gpu" where one of them has one."""
        with self._database.reading() as connection:
            devices = connection.scalars(sa.select(_workers.c.device)).all()
        return "gpu" if any(device != CPU for device in devices) else "cpu"

    def leave(self, executor: str) -> None:
        with self._database.writing() as connection:
            connection.execute(_workers.delete().where(_workers.c.executor == executor))


class _Seen(NamedTuple):
    beats: int
    since: float


class Watch:
    """Tells the dead by what was seen of them; times are seconds of one monotonic clock."""

    def __init__(self, dead_seconds: float) -> None:
        self._dead_seconds = dead_seconds
        self._seen: dict[str, _Seen] = {}
        self._looked_at: float | None = None

    def dead(self, counts: dict[str, int], now: float) -> list[str]:
        """The workers whose count has stood still for dead_seconds of uninterrupted looking."""
        if self._looked_at is not None and now - self._looked_at > self._dead_seconds / 2:
            self.forget()  # this process slept, or the database was away
        self._looked_at = now
        self._seen = {executor: self._see(executor, beats, now) for executor, beats in counts.items()}
        return [executor for executor, seen in self._seen.items() if now - seen.since >= self._dead_seconds]

    def forget(self) -> None:
        """Everybody gets the whole time again."""
        self._seen.clear()

    def _see(self, executor: str, beats: int, now: float) -> _Seen:
        seen = self._seen.get(executor)
        return seen if seen and seen.beats == beats else _Seen(beats, now)
