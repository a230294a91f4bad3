"""What runs that wait may expect, read once for all who ask within a moment."""

import time
from collections.abc import Set
from typing import TYPE_CHECKING

from app.heartbeats import Heartbeats
from app.readings import SharedReading
from app.run_queue import Snapshot, read_snapshots
from app.scheduling import Place, expected_waits
from app.statuses import Outlook, read_line

if TYPE_CHECKING:
    from dbos._sys_db import SystemDatabase

OUTLOOK_SECONDS = 0.5  # that all who ask share one


class Outlooks:
    def __init__(self, queue: "SystemDatabase", heartbeats: Heartbeats) -> None:
        self._queue, self._heartbeats = queue, heartbeats
        self._reading = SharedReading(self._read, OUTLOOK_SECONDS)

    def drop(self) -> None:
        """For who has changed the queue."""
        self._reading.drop()

    async def of(self, waiting: Set[str]) -> Outlook:
        """It knows of each of these runs, whichever API process queued it."""
        if not waiting:
            return Outlook({}, {})
        asked_at = time.monotonic()
        outlook = await self._reading.get()
        return outlook if waiting <= outlook.positions.keys() else await self._reading.get(since=asked_at)

    async def waits(self, run: str) -> bool:
        """Whether the run is still in the queue."""
        return run in (await self._reading.get()).positions

    def _read(self) -> Outlook:
        waiting, running = read_line(self._queue)
        snapshots = read_snapshots(self._queue, [place.run for place in running])
        running = [place._replace(seconds=_seconds_left(place, snapshots[place.run])) for place in running]
        waits = expected_waits(waiting, running, len(self._heartbeats.counts()))
        return Outlook({place.run: number for number, place in enumerate(waiting, 1)}, waits)


def _seconds_left(place: Place, snapshot: Snapshot) -> float:
    left = (snapshot["progress"] or {}).get("seconds_left")
    return place.seconds if left is None else left
