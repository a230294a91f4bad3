"""One reader of a run's progress stream in this process, however many watch it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Send

from app.database import RETRY_SECONDS, UNAVAILABLE

KEEP_ALIVE_SECONDS = 15.0
MAX_EVENTS = 1_000  # that a watcher is given at once: what it lacks of a long run is megabytes


def _message(offset: int, event: dict[str, Any]) -> bytes:
    """offset: the event's place in the stream, from 0."""
    return format_sse_event(event=event["kind"], data_str=json.dumps(event["data"]), id=str(offset))


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
    """Whoever watches the run is served from what has been read, and rendered once for all."""

    def __init__(self, read: Callable[[int], AsyncIterator[list[Any]]]) -> None:
        """read(offset): the stream's events from there on, some at a time, as they are written, until the run ends."""
        self.watchers = 0
        self._messages: list[bytes] = []
        self._ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._keep_reading(read))
        self._waking = asyncio.create_task(self._keep_waking())

    async def follow(self, offset: int) -> AsyncGenerator[list[bytes], None]:
        """The messages that the watcher lacks, each time that there are some; none, where none came for a while."""
        while offset < len(self._messages) or not self._ended:
            if messages := self._messages[offset : offset + MAX_EVENTS]:
                yield messages
                offset += len(messages)
            elif not self._ended:  # behind the end: a reader may be ahead of this process
                read = len(self._messages)
                await self._news.wait()
                if len(self._messages) == read and not self._ended:
                    yield []
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading  # raises what ended the reading early

    def close(self) -> None:
        self._reading.cancel()
        self._waking.cancel()

    async def _keep_reading(self, read: Callable[[int], AsyncIterator[list[Any]]]) -> None:
        try:
            while not self._ended:
                await self._read(read(len(self._messages)))
        finally:
            self._ended = True
            self._waking.cancel()
            self._announce()

    async def _read(self, batches: AsyncIterator[list[Any]]) -> None:
        """While the database is away, the watchers wait."""
        try:
            async for events in batches:
                self._messages += [_message(offset, event) for offset, event in enumerate(events, len(self._messages))]
                self._announce()
            self._ended = True
        except UNAVAILABLE:
            await asyncio.sleep(RETRY_SECONDS)

    async def _keep_waking(self) -> None:
        """Whose connection idles may lose it to a proxy."""
        while True:
            seen = len(self._messages)
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if len(self._messages) == seen:
                self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Feeds:
    """The feeds of this process, one for each run that somebody watches."""

    def __init__(self, read: Callable[[str, int], AsyncIterator[list[Any]]]) -> None:
        """read(run, offset): as a Feed's, for each run."""
        self._read = read
        self._feeds: dict[str, Feed] = {}

    async def follow(self, run: str, offset: int = 0) -> AsyncGenerator[list[bytes], None]:
        """The run's messages from an offset on, as they come, until the run ends; none, now and then."""
        feed = self._feeds.get(run)
        if feed is None:
            feed = self._feeds[run] = Feed(lambda first: self._read(run, first))
        feed.watchers += 1
        try:
            async with contextlib.aclosing(feed.follow(offset)) as following:
                async for messages in following:
                    yield messages
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                self._feeds.pop(run, None)
                feed.close()

    def close(self) -> None:
        """Ends every stream where it is; its reader may resume at another process."""
        for feed in self._feeds.values():
            feed.close()
