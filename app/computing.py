"""Threads for what computes alone: asyncio's own wait for the database, which may hang and hold them all."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

_THREADS = ThreadPoolExecutor(os.cpu_count(), "compute")


async def computed(act: Callable[..., Result], *arguments: Any) -> Result:
    """What `act` returns, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, act, *arguments)
