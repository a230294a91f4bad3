"""A wall clock that a test sets: every Python process with this folder on PYTHONPATH adds the offset to its own.

The offset is the float64 of seconds in the file that TEST_CLOCK names; who writes it moves the clocks of all
processes that read it, at once. The monotonic clock stays as it is, as it does on a real machine.
"""

import datetime as module
import mmap
import os
import struct
import time
from typing import Any

with open(os.environ["TEST_CLOCK"], "rb") as file:
    _page = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
_time, _time_ns, _datetime = time.time, time.time_ns, module.datetime


def _offset_seconds() -> float:
    return float(struct.unpack_from("d", _page)[0])


class _AnyDatetime(type):
    """What C code makes is of the original class, and counts as one of ours."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class datetime(_datetime, metaclass=_AnyDatetime):
    __slots__ = ()  # C code looks at the size

    @classmethod
    def now(cls, tz: module.tzinfo | None = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _datetime.fromtimestamp(time.time(), module.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _offset_seconds()
time.time_ns = lambda: _time_ns() + int(_offset_seconds() * 1e9)
module.datetime = datetime
