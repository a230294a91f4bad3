"""Runs together what arrives together: a bounded queue before work that costs many little more than one."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from app.errors import BusyError, DeadlineError

QUICK_SECONDS = 0.002  # work that takes no longer is done in the event loop: a thread would cost as much again

Item = TypeVar("Item")
Result = TypeVar("Result")


class Limits(NamedTuple):
    """How many items run together and may wait, and for how long."""

    batch: int  # items
    wait_seconds: float  # that an incomplete batch of several waits for more; a single item never does
    waiting: int  # items
    at_once: int = 1  # batches


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    since: float
    deadline: float
    result: "asyncio.Future[Result]"


class Batcher(Generic[Item, Result]):
    """A queue of items before the function that turns a batch of them into results. Belongs to one event loop."""

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result | Exception]],
        limits: Limits,
        pool: Executor,
        *,
        seconds: Callable[[int], float] = lambda size: float("inf"),
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        """run: one result for each item, in their order; one that is an exception is raised where the item came from.

        seconds(size): how long it takes; on_batch(size): told of every batch that is run.
        """
        self._run, self._limits, self._pool = run, limits, pool
        self._seconds, self._on_batch = seconds, on_batch
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._running = 0  # batches
        self._counted = 0  # items that waited when the last turn of the loop began
        self._due: asyncio.Handle | None = None
        self._waits_for_more = False

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    async def submit(self, items: Sequence[Item], deadline: float) -> list[Result]:
        """The results of the items, in their order. deadline: by time.monotonic().

        Raises BusyError where the queue has no room for all of them, and DeadlineError where they were still waiting
        when their time was up.
        """
        if len(self._waiting) + len(items) > self._limits.waiting:
            raise BusyError(len(self._waiting))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.extend(_Waiting(item, now, deadline, future) for item, future in zip(items, futures, strict=True))
        self._schedule(loop)
        return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._due and self._waits_for_more and self._seconds_to_wait() <= 0:
            self._due.cancel()
            self._due = None
        if self._due is None and self._waiting and self._running < self._limits.at_once:
            self._due, self._waits_for_more = loop.call_soon(self._start, loop), False

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs what waits as soon as a turn of the loop has brought no more."""
        self._due = None
        if self._counted < len(self._waiting) < self._limits.batch:
            self._counted = len(self._waiting)
            self._due = loop.call_soon(self._start, loop)
            return
        self._counted = 0
        if (wait := self._seconds_to_wait()) > 0:
            self._due, self._waits_for_more = loop.call_later(wait, self._start, loop), True
        elif batch := self._take():
            self._on_batch(len(batch))
            items = [waiting.item for waiting in batch]
            if self._seconds(len(batch)) <= QUICK_SECONDS:
                _settle(batch, _attempt(self._run, items))
            else:
                self._running += 1
                work = loop.run_in_executor(self._pool, _attempt, self._run, items)
                work.add_done_callback(partial(self._finish, loop, batch))
            self._schedule(loop)

    def _seconds_to_wait(self) -> float:
        if not 1 < len(self._waiting) < self._limits.batch:
            return 0.0
        return self._waiting[0].since + self._limits.wait_seconds - time.monotonic()

    def _take(self) -> list[_Waiting[Item, Result]]:
        """The next batch, without those whose time is up or who have gone."""
        batch: list[_Waiting[Item, Result]] = []
        now = time.monotonic()
        while self._waiting and len(batch) < self._limits.batch:
            waiting = self._waiting.popleft()
            if waiting.result.done():
                continue
            if waiting.deadline < now:
                waiting.result.set_exception(DeadlineError(now - waiting.since))
            else:
                batch.append(waiting)
        return batch

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting[Item, Result]],
        work: "asyncio.Future[Sequence[Result | Exception]]",
    ) -> None:
        self._running -= 1
        _settle(batch, work.result())
        self._schedule(loop)


def _attempt(run: Callable[[list[Item]], Sequence[Any]], items: list[Item]) -> Sequence[Any]:
    try:
        return run(items)
    except Exception as error:  # noqa: BLE001 - every request of the batch says what went wrong
        return [error] * len(items)


def _settle(batch: list[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.result.done():  # whoever asked has gone
            continue
        if isinstance(result, Exception):
            waiting.result.set_exception(result)
        else:
            waiting.result.set_result(result)
