"""The tables: a row for each server and load, one for each server's start and memory, and how the aims were met."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from benchmarks.serving_peers.servers import BODIES, Body, Server
from benchmarks.serving_peers.wrk import Load

BODY_TITLES = {"png": "PNG", "pixels": "raw pixels"}

Point = tuple[Body, int]  # what was sent, over how many connections


@dataclass
class Measured:
    """What was measured of one server; every list has one entry a round."""

    server: Server
    loads: dict[Point, list[Load]] = field(default_factory=dict)
    cpu_seconds: dict[Point, list[float]] = field(default_factory=dict)
    start_seconds: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    failure: str | None = None

    def per_second(self, point: Point) -> list[float]:
        return [load.per_second for load in self.loads[point]]

    def milliseconds(self, point: Point, quantile: str) -> float:
        return 1e3 * statistics.median(getattr(load, f"{quantile}_seconds") for load in self.loads[point])

    def cpu_microseconds(self, point: Point) -> float:
        """Of the server, a request."""
        pairs = zip(self.cpu_seconds[point], self.loads[point], strict=True)
        return 1e6 * statistics.median(seconds / load.requests for seconds, load in pairs)

    def errors(self, point: Point) -> int:
        return sum(load.errors for load in self.loads[point])


def speedup(ours: Measured, theirs: Measured, point: Point) -> float:
    """How many times as many requests a second are ours: the median of the rounds' quotients."""
    pairs = zip(ours.per_second(point), theirs.per_second(point), strict=True)
    return statistics.median(mine / other for mine, other in pairs)


def loads_table(results: Sequence[Measured], points: Sequence[Point], ours: Measured | None) -> Iterator[str]:
    headings = ["requests/s (least–most)", "Inkling's are", "p50 (ms)", "p99 (ms)", "CPU (µs)", "errors"]
    headings = ["body, connections", "server", *headings]
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join(['---'] * len(headings))} |"
    for point in points:
        for result in results:
            cells = [f"{BODY_TITLES[point[0]]}, {point[1]}", result.server.title, *_cells(result, point, ours)]
            yield f"| {' | '.join(cells)} |"


def _cells(result: Measured, point: Point, ours: Measured | None) -> list[str]:
    if result.failure:
        return [f"failed: {result.failure}", *[""] * 5]
    speeds = result.per_second(point)
    return [
        f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f}–{max(speeds):,.0f})",
        f"× {speedup(ours, result, point):.2f}" if ours else "–",
        f"{result.milliseconds(point, 'p50'):.2f}",
        f"{result.milliseconds(point, 'p99'):.2f}",
        f"{result.cpu_microseconds(point):.0f}",
        f"{result.errors(point)}",
    ]


def servers_table(results: Sequence[Measured], peers: Path) -> Iterator[str]:
    yield "| server | start to first answer (s) | memory (MB) | versions |"
    yield "| --- | --- | --- | --- |"
    for result in results:
        if not result.failure:
            start, memory = statistics.median(result.start_seconds), statistics.median(result.memory_bytes) / 1e6
            yield f"| {result.server.title} | {start:.2f} | {memory:.0f} | {versions(result.server, peers)} |"


def versions(server: Server, peers: Path) -> str:
    """As the server's own interpreter has them."""
    program = (
        "import importlib.metadata as m, json, platform, sys; "
        "print(json.dumps({'Python': platform.python_version()} | {name: m.version(name) for name in sys.argv[1:]}))"
    )
    command = [str(server.interpreter(peers)), "-c", program, *server.packages]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def aims(ours: Measured, empty: Measured | None, peers: Sequence[Measured], points: Sequence[Point]) -> Iterator[str]:
    """What issue 5 asks for, and what came of it."""
    yield "| aim | measured |"
    yield "| --- | --- |"
    for body in BODIES:
        of_body = [point for point in points if point[0] == body]
        if peers and of_body:
            factors = ", ".join(f"{min(speedup(ours, peer, point) for peer in peers):.2f}" for point in of_body)
            loads = ", ".join(str(connections) for _, connections in of_body)
            yield f"| {BODY_TITLES[body]}: ≥ 2 × the best peer's requests/s at {loads} connections | {factors} |"
    raw = [point for point in points if point[0] == "pixels"]
    if empty and raw:
        slower = (ours.milliseconds(point, "p50") / empty.milliseconds(point, "p50") for point in raw)
        shares = (f"{speedup(ours, empty, point):.0%}" for point in raw)
        yield f"| raw pixels: p50 ≤ 2 × the empty route's | {', '.join(f'{each:.2f}' for each in slower)} |"
        yield f"| raw pixels: ≥ 60 % of the empty route's requests/s | {', '.join(shares)} |"


def notes(rounds: int, seconds: float, side: int) -> Iterator[str]:
    yield f"{processor()}, {os.cpu_count()} cores for server and generator, {platform.system()}; {date.today()}.\n"
    yield (
        f"- Median of n = {rounds} rounds in which all took turns, {seconds:g} s each after a warm-up, least and most "
        "in brackets; *Inkling's are*: the median of the rounds' quotients, above 1 Inkling answers more requests."
    )
    yield (
        f"- PNG: MNIST's test digits on {side} × {side} px, gray; raw pixels: 28 × 28 numbers in JSON. Every server "
        "prepares them with this checkout's `model.drawing`, and named each right before it was measured."
    )
    yield (
        "- CPU: of the server's processes, a request; memory: of all of them after the last load (PSS); start: from "
        "the start of the process to the first right answer. One worker process each, no GPU."
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
