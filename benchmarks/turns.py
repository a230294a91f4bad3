"""Whose turn it is: in every round another one begins, so that none has always the quieter or the cooler machine."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(everybody: Sequence[T], round_number: int) -> list[T]:
    first = round_number % len(everybody)
    return [*everybody[first:], *everybody[:first]]
