"""Whose run is next: users take turns, each in the order of asking; and when a waiting run may expect to start.

Fair queueing with start tags (Goyal, Vin & Cheng 1996, "Start-time Fair Queueing") where every run weighs the same: a
run's turn is one behind its user's last, and never before the turn that is being served. Runs start by turn, and by
age where turns are equal. The durable queue orders by one number, the rank, which holds the priority too.
"""

import heapq
from collections.abc import Sequence
from typing import Literal, NamedTuple

Priority = Literal["high", "normal", "low"]
_RANKS = 700_000_000  # of each priority: a rank is at most 2³¹ − 1
_FIRST_RANK = {"high": 1, "normal": 1 + _RANKS, "low": 1 + 2 * _RANKS}


class Place(NamedTuple):
    """A run in the queue or in training; seconds: what is left of it, or what it is expected to take."""

    run: str
    user: str
    rank: int
    created_at_ms: int
    seconds: float


def next_rank(waiting: Sequence[Place], running: Sequence[Place], user: str, priority: Priority) -> int:
    """The rank of a run that the user asks for now."""
    first = _FIRST_RANK[priority]
    last = first + _RANKS
    waiting, running = ([place for place in places if first <= place.rank < last] for places in (waiting, running))
    latest = max((place.rank for place in running), default=first)
    served = min((place.rank for place in waiting), default=latest)
    own = max((place.rank for place in (*waiting, *running) if place.user == user), default=0)
    return min(max(served, own + 1), last - 1)


def in_order(places: Sequence[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (place.rank, place.created_at_ms, place.run))


def expected_waits(waiting: Sequence[Place], running: Sequence[Place], workers: int) -> dict[str, float]:
    """Seconds until each waiting run starts, if all take as long as expected and nobody asks for more; by run."""
    free = [place.seconds for place in running][:workers]
    free += [0.0] * (workers - len(free))
    heapq.heapify(free)
    waits = {}
    for place in in_order(waiting) if free else []:
        waits[place.run] = free[0]
        heapq.heapreplace(free, free[0] + place.seconds)
    return waits
