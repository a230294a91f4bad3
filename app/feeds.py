"""One reader of a run's progress stream in this process, however many watch it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Literal, NamedTuple

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Send

from app.database import RETRY_SECONDS, UNAVAILABLE

KEEP_ALIVE_SECONDS = 15.0
MAX_EVENTS = 1_000  # that a watcher is given at once: what it lacks of a long run is megabytes


class Event(NamedTuple):
    """One entry of a run's progress stream; offset: its place in it, from 0."""

    offset: int
    kind: Literal["progress", "epoch"]
    data: dict[str, Any]
    message: bytes  # rendered once for all who watch


def _event(offset: int, kind: Literal["progress", "epoch"], data: dict[str, Any]) -> Event:
    message = format_sse_event(event=kind, data_str=json.dumps(data), id=str(offset))
    return Event(offset, kind, data, message)


class EventStream(StreamingResponse):
    """Server-sent events, rendered already.

    FastAPI's own response for them renders each event for each watcher, and hands it over in a write of its own.
    """

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncGenerator[bytes, None]) -> None:
        super().__init__(messages, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        """Whoever leaves is no longer counted as a watcher."""
        async with contextlib.aclosing(self._messages):
            await super().stream_response(send)


class Feed:
    """Whoever watches the run is served from what has been read."""

    def __init__(self, read: Callable[[int], AsyncIterator[Any]]) -> None:
        """read(offset): the stream from there on, as it is written, until the run ends."""
        self.watchers = 0
        self._events: list[Event] = []
        self._ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._keep_reading(read))
        self._waking = asyncio.create_task(self._keep_waking())

    async def follow(self, offset: int) -> AsyncGenerator[list[Event], None]:
        """All that the watcher lacks, each time that there is something; nothing, where nothing came for a while."""
        while offset < len(self._events) or not self._ended:
            if events := self._events[offset : offset + MAX_EVENTS]:
                yield events
                offset += len(events)
            elif not self._ended:  # behind the end: a reader may be ahead of this process
                read = len(self._events)
                await self._news.wait()
                if len(self._events) == read and not self._ended:
                    yield []
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading  # raises what ended the reading early

    def close(self) -> None:
        self._reading.cancel()
        self._waking.cancel()

    async def _keep_reading(self, read: Callable[[int], AsyncIterator[Any]]) -> None:
        try:
            while not self._ended:
                await self._read(read(len(self._events)))
        finally:
            self._ended = True
            self._waking.cancel()
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

    async def _keep_waking(self) -> None:
        """Whose connection idles may lose it to a proxy."""
        while True:
            seen = len(self._events)
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if len(self._events) == seen:
                self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Feeds:
    """The feeds of this process, one for each run that somebody watches."""

    def __init__(self, read: Callable[[str, int], AsyncIterator[Any]]) -> None:
        """read(run, offset): the run's stream from there on, as it is written, until the run ends."""
        self._read = read
        self._feeds: dict[str, Feed] = {}

    async def follow(self, run: str, offset: int = 0) -> AsyncGenerator[list[Event], None]:
        """The run's progress from an offset on, as it is written, until the run ends; nothing, now and then."""
        feed = self._feeds.get(run)
        if feed is None:
            feed = self._feeds[run] = Feed(lambda first: self._read(run, first))
        feed.watchers += 1
        try:
            async with contextlib.aclosing(feed.follow(offset)) as following:
                async for events in following:
                    yield events
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                self._feeds.pop(run, None)
                feed.close()

    def close(self) -> None:
        """Ends every stream where it is; its reader may resume at another process."""
        for feed in self._feeds.values():
            feed.close()
