"""One reading for all who ask within a moment."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedReading(Generic[Value]):
    """The last reading, shared by all who ask within so many seconds of its start; one that failed is not kept."""

    def __init__(self, read: Callable[[], Value], seconds: float) -> None:
        """read: runs in a thread."""
        self._read, self._seconds = read, seconds
        self._reading: asyncio.Task[Value] | None = None
        self._began = 0.0

    async def get(self, *, since: float = 0.0) -> Value:
        """since: of time.monotonic(); what began to be read before is not good enough."""
        if self._reading is None or self._began < since or self._is_over(self._reading):
            self._began = time.monotonic()
            self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        return await asyncio.shield(self._reading)  # who leaves takes it from nobody

    def drop(self) -> None:
        """For who has changed what is read."""
        self._reading = None

    def _is_over(self, reading: "asyncio.Task[Value]") -> bool:
        if not reading.done():
            return False
        failed = reading.cancelled() or reading.exception() is not None
        return failed or time.monotonic() - self._began > self._seconds
