"""The tables: a row for each server, a column for each load; and how the aims were met."""

import itertools
import json
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reporting import machine, table
from benchmarks.serving_peers.servers import BODIES, Body, Server
from benchmarks.serving_peers.wrk import Load

CONNECTIONS = (1, 8, 64)
BODY_TITLES = {"png": "PNG", "pixels": "raw pixels"}

Point = tuple[Body, int]  # what is sent, over how many connections

POINTS: list[Point] = list(itertools.product(BODIES, CONNECTIONS))


@dataclass
class Measured:
    """What was measured of one server; lists have one entry a round."""

    server: Server
    loads: dict[Point, list[Load]] = field(default_factory=dict)
    cpu_seconds: dict[Point, list[float]] = field(default_factory=dict)
    idle_shares: list[float] = field(default_factory=list)  # of a core, in each load of each of the others
    start_seconds: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    failure: str | None = None

    @property
    def title(self) -> str:
        return self.server.title

    @property
    def errors(self) -> int:
        return sum(load.errors for loads in self.loads.values() for load in loads)

    def per_second(self, point: Point) -> list[float]:
        return [load.per_second for load in self.loads[point]]

    def milliseconds(self, point: Point, quantile: str) -> float:
        return 1e3 * statistics.median(getattr(load, f"{quantile}_seconds") for load in self.loads[point])

    def cpu_microseconds(self, point: Point) -> float:
        """Of the server, a request."""
        pairs = zip(self.cpu_seconds[point], self.loads[point], strict=True)
        return 1e6 * statistics.median(seconds / load.requests for seconds, load in pairs)


def speedup(ours: Measured, theirs: Measured, point: Point) -> float:
    """How many times as many requests a second are ours: the median of the rounds' quotients."""
    pairs = zip(ours.per_second(point), theirs.per_second(point), strict=True)
    return statistics.median(mine / other for mine, other in pairs)


def speeds_table(results: Sequence[Measured], ours: Measured | None) -> Iterator[str]:
    def cell(result: Measured, point: Point) -> str:
        speeds = result.per_second(point)
        quotient = f"; × {speedup(ours, result, point):.2f}" if ours else ""
        return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f}–{max(speeds):,.0f}){quotient}"

    return _points_table("requests/s (least–most); Inkling's are", results, cell)


def latencies_table(results: Sequence[Measured]) -> Iterator[str]:
    def cell(result: Measured, point: Point) -> str:
        return f"{result.milliseconds(point, 'p50'):.2f}, {result.milliseconds(point, 'p99'):.2f}"

    return _points_table("p50, p99 (ms)", results, cell)


def work_table(results: Sequence[Measured]) -> Iterator[str]:
    def cell(result: Measured, point: Point) -> str:
        return f"{result.cpu_microseconds(point):.0f}"

    return _points_table("server's CPU a request (µs)", results, cell)


def _points_table(what: str, results: Sequence[Measured], cell: Callable[[Measured, Point], str]) -> Iterator[str]:
    points = (f"{BODY_TITLES[body]}, {connections}" for body, connections in POINTS)
    return table([what, *points], ([result.title, *(cell(result, point) for point in POINTS)] for result in results))


def servers_table(results: Sequence[Measured], peers: Path) -> Iterator[str]:
    headings = ["server", "start to first answer (s)", "memory (MB)", "CPU while idle (most)", "errors", "versions"]
    return table(headings, (_of_server(result, peers) for result in results))


def _of_server(result: Measured, peers: Path) -> list[str]:
    if result.failure:
        return [result.title, f"failed: {result.failure}", *[""] * 4]
    idle = result.idle_shares
    return [
        result.title,
        f"{statistics.median(result.start_seconds):.2f}",
        f"{statistics.median(result.memory_bytes) / 1e6:.0f}",
        f"{statistics.median(idle):.1%} ({max(idle):.1%})" if idle else "–",
        f"{result.errors}",
        versions(result.server, peers),
    ]


def versions(server: Server, peers: Path) -> str:
    """As the server's own interpreter has them."""
    program = (
        "import importlib.metadata as m, json, platform, sys; "
        "print(json.dumps({'Python': platform.python_version()} | {name: m.version(name) for name in sys.argv[1:]}))"
    )
    command = [str(server.interpreter(peers)), "-c", program, *server.packages]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def aims_table(ours: Measured, empty: Measured | None, peers: Sequence[Measured]) -> Iterator[str]:
    """What issue 5 asks for, and what came of it."""
    connections = ", ".join(map(str, CONNECTIONS))
    return table(
        ["aim", f"measured at {connections} connections (**missed**)"],
        [*(_beside_the_best(ours, peers) if peers else []), *(_beside_the_empty(ours, empty) if empty else [])],
    )


def _beside_the_best(ours: Measured, peers: Sequence[Measured]) -> Iterator[list[str]]:
    for body in BODIES:
        points = [point for point in POINTS if point[0] == body]
        best = [min((speedup(ours, peer, point), peer.title) for peer in peers) for point in points]
        cells = (_said(f"{factor:.2f}", factor >= 2) + f" ({title})" for factor, title in best)
        yield [f"{BODY_TITLES[body]}: ≥ 2 × the best peer's requests/s", ", ".join(cells)]


def _beside_the_empty(ours: Measured, empty: Measured) -> Iterator[list[str]]:
    points = [point for point in POINTS if point[0] == "pixels"]
    slower = [ours.milliseconds(point, "p50") / empty.milliseconds(point, "p50") for point in points]
    yield ["raw pixels: p50 ≤ 2 × the empty route's", ", ".join(_said(f"{each:.2f}", each <= 2) for each in slower)]
    shares = [speedup(ours, empty, point) for point in points]
    cells = ", ".join(_said(f"{share:.0%}", share >= 0.6) for share in shares)
    yield ["raw pixels: ≥ 60 % of the empty route's requests/s", cells]


def _said(figure: str, is_met: bool) -> str:
    return figure if is_met else f"**{figure}**"


def notes(rounds: int, seconds: float, side: int) -> Iterator[str]:
    yield f"{machine()}; server and generator share the cores.\n"
    yield (
        f"- Median of n = {rounds} rounds in which all took turns at each load, {seconds:g} s each after a warm-up; "
        "least and most in brackets; *Inkling's are*: the median of the rounds' quotients, above 1 where they are more."
    )
    yield (
        f"- PNG: MNIST's test digits on {side} × {side} px, gray; raw pixels: 28 × 28 numbers in JSON; over so many "
        "connections. Every server prepares them with this checkout's `model.drawing`, and named each right before."
    )
    yield (
        "- Start: from the start of the process to the first right answer; memory: of all its processes after the last "
        "load (PSS); CPU while idle: of a core, while the others were loaded. One worker process each, no GPU."
    )
