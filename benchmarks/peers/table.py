"""The table: a row for each peer and job, the machine, and what the columns mean."""

import math
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from benchmarks.peers.job import CHANCE_LOSS, EPOCH_IMAGES, Job, step_flops
from benchmarks.peers.process import Peer, Slice

MATRIX_SIDE = 2_048  # of the product whose speed is called the machine's peak
STEADY = 1.25  # how far the best matrix peak may be above the worst before the table says so
IDLE_SHARE, IDLE_CPU_SECONDS = 0.02, 0.05  # of a slice's seconds: more than both between rounds is work


@dataclass
class Row:
    """What was measured of one peer doing one job."""

    peer: Peer
    job: Job
    start_seconds: list[float] = field(default_factory=list)  # to the first slice's end: caches cold, then warm
    slices: list[Slice] = field(default_factory=list)  # the first one warms up
    peaks: list[float] = field(default_factory=list)  # the machine's, GFLOP/s, before each but the first slice
    failure: str | None = None

    @property
    def epochs(self) -> list[float]:
        """Seconds an epoch, of each round."""
        return [each.seconds * EPOCH_IMAGES / self.job.images for each in self.slices[1:]]

    @property
    def first_epoch_seconds(self) -> list[float]:
        """From process start to the end of the first epoch; what a slice leaves out of it at the median speed."""
        rest = statistics.median(self.epochs) * (1 - self.job.images / EPOCH_IMAGES)
        return [seconds + rest for seconds in self.start_seconds]

    @property
    def gflops(self) -> list[float]:
        """Of each round: the arithmetic of an epoch over its seconds."""
        flops = step_flops(self.job.network) * EPOCH_IMAGES
        return [flops / seconds / 1e9 for seconds in self.epochs]

    @property
    def share_of_peak(self) -> float:
        """Median over the rounds, each against the peak just before it: a shared machine's speed drifts."""
        return statistics.median(mine / peak for mine, peak in zip(self.gflops, self.peaks, strict=True))

    def warnings(self) -> Iterator[str]:
        losses = [each.loss for each in self.slices]
        if not all(map(math.isfinite, losses)) or losses[-1] >= min(losses[0], CHANCE_LOSS):
            yield f"does not learn (loss {losses[0]:.3f} → {losses[-1]:.3f})"
        for each in self.slices[1:]:
            if each.idle_cpu_seconds > max(IDLE_SHARE * each.seconds, IDLE_CPU_SECONDS):
                yield f"worked {each.idle_cpu_seconds:.2f} CPU-seconds between rounds"


def table(rows: Sequence[Row], our_peer: Peer, verbose: bool) -> Iterator[str]:
    headings = [
        "network, batch",
        "trained by",
        "seconds an epoch (least–most)",
        "× ours",
        "GFLOP/s",
        "of peak",
        "start to first epoch: cold, warm (s)",
        "peak memory (MB)",
    ] + ["loss, first → last slice"] * verbose
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join(['---'] * len(headings))} |"
    ours = {row.job: row for row in rows if row.peer is our_peer and not row.failure}
    for row in rows:
        cells = [f"failed: {row.failure}"] if row.failure else [*cells_of(row, ours.get(row.job), verbose)]
        cells += [""] * (len(headings) - 2 - len(cells))
        name = f"{row.job.network_name}, {row.job.batch_size}"
        yield f"| {name} | {row.peer.title} | {' | '.join(cells)} |"


def cells_of(row: Row, ours: Row | None, verbose: bool) -> Iterator[str]:
    warnings = "".join(f"; {warning}" for warning in row.warnings())
    yield f"{spread(row.epochs)}{warnings}"
    yield f"{ratio(row, ours):.2f}" if ours else "–"
    yield f"{statistics.median(row.gflops):.1f}"
    yield f"{row.share_of_peak:.0%}"
    yield ", ".join(f"{seconds:.1f}" for seconds in row.first_epoch_seconds)
    yield f"{max(each.peak_bytes for each in row.slices) / 1e6:.0f}"
    if verbose:
        yield f"{row.slices[0].loss:.3f} → {row.slices[-1].loss:.3f}"


def spread(values: Sequence[float]) -> str:
    """Median (least–most)."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})" if values else "–"


def ratio(row: Row, ours: Row) -> float:
    """Median over the rounds, so that both sides of each quotient were measured within a minute or so."""
    return statistics.median(theirs / mine for theirs, mine in zip(row.epochs, ours.epochs, strict=True))


def notes(rows: Sequence[Row], rounds: int) -> Iterator[str]:
    peaks = [peak for row in rows for peak in row.peaks]
    if peaks and max(peaks) > STEADY * min(peaks):
        yield "**The machine was unsteady, or others used it: see its peaks below, and measure again.**\n"
    yield f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; {date.today()}."
    versions = {name: version for row in rows for each in row.slices for name, version in each.versions.items()}
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n"
    yield (
        f"- Seconds an epoch ({EPOCH_IMAGES:,} images): median of n = {rounds} rounds, warm, least and most in "
        f"brackets; *× ours*: median of the rounds' quotients, above 1 is slower than Inkling.{extrapolations(rows)}"
    )
    yield (
        "- GFLOP/s: 6 Σk − 2 k₁ operations an image, k the multiply-adds of each layer's product or convolution, k₁ "
        f"the first one's. *Of peak*: of what a {MATRIX_SIDE}² float32 product in NumPy reaches just before each "
        f"slice, {spread(peaks)} GFLOP/s; median of the rounds' quotients."
    )
    yield (
        "- Start to first epoch: from the start of the Python process, n = 1: imports, reading the data, compiling, "
        "one epoch. Cold, and where one figure stands alone: the peer's compile caches are empty; warm: it has run "
        "before (Inkling and `torch.compile` keep what they compiled; by default the others do not)."
    )
    yield "- Peak memory: the most that the process had resident, with the images, in all rounds."


def extrapolations(rows: Sequence[Row]) -> str:
    jobs = dict.fromkeys(row.job for row in rows if row.job.images < EPOCH_IMAGES)
    parts = [
        f"{job.network_name} at {job.batch_size} from {job.steps} of {math.ceil(EPOCH_IMAGES / job.batch_size):,} steps"
        for job in jobs
    ]
    return f" Extrapolated: {'; '.join(parts)}." if parts else ""


def processor() -> str:
    """The processor's name as Linux has it, else as Python does."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
