"""However many ask within a moment, one reading answers them all; what has changed since is read again."""

import asyncio
import threading
import time

import pytest

from app.readings import SharedReading


class Readings:
    """Counts them; each takes until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> int:
        self.count += 1
        number = self.count
        assert self.go.wait(10)
        return number


def test_all_who_ask_while_it_is_read_or_soon_after_share_one_reading() -> None:
    async def ask() -> None:
        read = Readings()
        shared = SharedReading(read, seconds=60)
        read.go.clear()
        asked = [asyncio.create_task(shared.get()) for _ in range(10)]
        await asyncio.sleep(0)
        asked[0].cancel()  # the one who began it
        read.go.set()
        assert await asyncio.gather(*asked[1:]) == [1] * 9
        assert await shared.get() == 1

    asyncio.run(ask())


def test_it_is_read_again_when_it_is_old_or_dropped_or_begun_too_early() -> None:
    async def ask() -> None:
        old = SharedReading(Readings(), seconds=0)
        assert [await old.get(), await old.get()] == [1, 2]
        shared = SharedReading(Readings(), seconds=60)
        asked_at = time.monotonic()
        assert await shared.get(since=asked_at) == 1
        assert await shared.get(since=asked_at) == 1
        assert await shared.get(since=time.monotonic()) == 2
        shared.drop()
        assert await shared.get() == 3

    asyncio.run(ask())


def test_what_is_being_read_when_it_changes_is_for_those_who_asked_before() -> None:
    async def ask() -> None:
        read = Readings()
        shared = SharedReading(read, seconds=60)
        read.go.clear()
        before = asyncio.create_task(shared.get())
        await asyncio.sleep(0.01)
        shared.drop()
        after = asyncio.create_task(shared.get())
        await asyncio.sleep(0.01)
        read.go.set()
        assert (await before, await after, await shared.get()) == (1, 2, 2)

    asyncio.run(ask())


def test_a_reading_that_failed_is_tried_again() -> None:
    failures = [OSError("away")]

    def read() -> str:
        if failures:
            raise failures.pop()
        return "back"

    async def ask() -> None:
        shared = SharedReading(read, seconds=60)
        with pytest.raises(OSError, match="away"):
            await shared.get()
        assert await shared.get() == "back"

    asyncio.run(ask())
