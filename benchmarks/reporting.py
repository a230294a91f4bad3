"""What the reports share: a table in Markdown, a median with its spread, and the machine that was measured."""

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(headings)
    yield _line(["---"] * len(headings))
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(numbers: Sequence[float], scale: float = 1.0) -> str:
    """Median (least–most)."""
    if not numbers:
        return "–"
    middle, least, most = (scale * of(numbers) for of in (statistics.median, min, max))
    return f"{middle:.4g} ({least:.4g}–{most:.4g})"


def machine() -> str:
    """With the date."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; {date.today()}"


def _processor() -> str:
    """Its name as Linux has it, else as Python does."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
