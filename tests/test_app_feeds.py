"""One reader of a run's stream serves all who watch it: each gets what it lacks, at once, from wherever it begins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from app import feeds
from app.feeds import MAX_EVENTS, Feed

AWAY = sa.exc.OperationalError("SELECT", {}, Exception("the server closed the connection"))


class Stream:
    """A run's stream in the making."""

    def __init__(self) -> None:
        self.values: asyncio.Queue[Any] = asyncio.Queue()
        self.opened_at: list[int] = []

    def write(self, count: int) -> None:
        for number in range(count):
            self.values.put_nowait({"kind": "progress", "data": {"step": number}})

    def end(self) -> None:
        self.values.put_nowait(None)

    async def read(self, offset: int) -> AsyncIterator[list[Any]]:
        self.opened_at.append(offset)
        while (value := await self.values.get()) is not None:
            if isinstance(value, Exception):
                raise value
            yield [value]


def offsets(messages: list[bytes]) -> list[int]:
    return [int(message.partition(b"\nid: ")[2]) for message in messages]


async def followed(feed: Feed, offset: int) -> list[list[int]]:
    return [offsets(messages) async for messages in feed.follow(offset)]


def test_a_watcher_gets_all_that_it_lacks_at_once() -> None:
    async def watch() -> None:
        stream = Stream()
        feed = Feed(stream.read)
        stream.write(MAX_EVENTS + 5)
        while stream.values.qsize():
            await asyncio.sleep(0)
        late = feed.follow(3)
        first = await anext(late)
        assert offsets(first) == list(range(3, MAX_EVENTS + 3))
        assert first[0] == b'event: progress\ndata: {"step": 3}\nid: 3\n\n'
        stream.end()
        assert [offsets(messages) async for messages in late] == [[MAX_EVENTS + 3, MAX_EVENTS + 4]]
        assert stream.opened_at == [0]

    asyncio.run(watch())


def test_a_watcher_who_is_ahead_of_the_reader_hears_nothing_until_it_comes_by() -> None:
    async def watch() -> None:
        stream = Stream()
        feed = Feed(stream.read)
        ahead = asyncio.create_task(followed(feed, 3))
        for _ in range(5):
            stream.write(1)
            await asyncio.sleep(0.01)
        stream.end()
        assert await ahead == [[3], [4]]

    asyncio.run(watch())


def test_a_quiet_stream_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEEP_ALIVE_SECONDS", 0.01)

    async def watch() -> None:
        stream = Stream()
        following = Feed(stream.read).follow(0)
        assert [await anext(following) for _ in range(3)] == [[], [], []]
        stream.end()

    asyncio.run(watch())


def test_a_database_that_was_away_costs_watchers_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RETRY_SECONDS", 0.01)

    async def watch() -> None:
        stream = Stream()
        feed = Feed(stream.read)
        stream.write(2)
        stream.values.put_nowait(AWAY)
        stream.write(1)
        stream.end()
        assert [offset for batch in await followed(feed, 0) for offset in batch] == [0, 1, 2]
        assert stream.opened_at == [0, 2]

    asyncio.run(watch())
