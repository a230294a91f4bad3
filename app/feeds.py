"""One reader of a run's progress stream in this process, however many watch it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, NamedTuple

from fastapi.sse import ServerSentEvent

from app.database import RETRY_SECONDS, UNAVAILABLE


class Event(NamedTuple):
    """One entry of a run's progress stream; offset: its place in it, from 0."""

    offset: int
    kind: Literal["progress", "epoch"]
    data: dict[str, Any]
    message: ServerSentEvent  # written once for all who watch


def _event(offset: int, kind: Literal["progress", "epoch"], data: dict[str, Any]) -> Event:
    message = ServerSentEvent(event=kind, id=str(offset), raw_data=json.dumps(data))
    return Event(offset, kind, data, message)


class Feed:
    """Whoever watches the run is served from what has been read."""

    def __init__(self, read: Callable[[int], AsyncIterator[Any]]) -> None:
        """read(offset): the stream from there on, as it is written, until the run ends."""
        self.watchers = 0
        self._events: list[Event] = []
        self._ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._keep_reading(read))

    async def follow(self, offset: int) -> AsyncIterator[Event]:
        while offset < len(self._events) or not self._ended:
            for event in self._events[offset:]:
                yield event
                offset += 1
            if offset >= len(self._events) and not self._ended:  # behind the end: a reader may be ahead of this process
                await self._news.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading  # raises what ended the reading early

    def close(self) -> None:
        self._reading.cancel()

    async def _keep_reading(self, read: Callable[[int], AsyncIterator[Any]]) -> None:
        try:
            while not self._ended:
                await self._read(read(len(self._events)))
        finally:
            self._ended = True
            self._announce()

    async def _read(self, values: AsyncIterator[Any]) -> None:
        """While the database is away, the watchers wait."""
        try:
            async for value in values:
                self._events.append(_event(len(self._events), value["kind"], value["data"]))
                self._announce()
            self._ended = True
        except UNAVAILABLE:
            await asyncio.sleep(RETRY_SECONDS)

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
