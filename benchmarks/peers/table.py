"""The tables: a row for each peer, a column for each job; and what the figures mean."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.job import CHANCE_LOSS, EPOCH_IMAGES, Job, step_flops
from benchmarks.peers.process import Peer, Slice
from benchmarks.reporting import machine, spread, table

MATRIX_SIDE = 2_048  # of the product whose speed is called the machine's peak
STEADY = 1.25  # how far the best matrix peak may be above the worst before the table says so


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
        if self.failure:
            yield f"failed: {self.failure}"
            return
        losses = [each.loss for each in self.slices]
        if not all(map(math.isfinite, losses)) or losses[-1] >= min(losses[0], CHANCE_LOSS):
            yield f"does not learn (loss {losses[0]:.3f} → {losses[-1]:.3f})"
        idle = [each.idle_cpu_seconds for each in self.slices[1:] if each.worked_while_idle]
        if idle:
            yield f"worked up to {max(idle):.2f} CPU-seconds between rounds"


def speeds_table(rows: Sequence[Row], our_peer: Peer) -> Iterator[str]:
    ours = {row.job: row for row in rows if row.peer is our_peer and not row.failure}

    def cell(row: Row) -> str:
        quotient = f"; × {ratio(row, ours[row.job]):.2f}" if row.job in ours else ""
        return f"{spread(row.epochs)}{quotient}{' †' if any(row.warnings()) else ''}"

    return _jobs_table("seconds an epoch (least–most); × ours", rows, cell)


def shares_table(rows: Sequence[Row]) -> Iterator[str]:
    def cell(row: Row) -> str:
        return f"{statistics.median(row.gflops):.1f}, {row.share_of_peak:.0%}"

    return _jobs_table("GFLOP/s, of peak", rows, cell)


def starts_table(rows: Sequence[Row]) -> Iterator[str]:
    def cell(row: Row) -> str:
        seconds = ", ".join(f"{seconds:.1f}" for seconds in row.first_epoch_seconds)
        return f"{seconds}; {max(each.peak_bytes for each in row.slices) / 1e6:.0f}"

    return _jobs_table("start to first epoch: cold, warm (s); peak memory (MB)", rows, cell)


def losses_table(rows: Sequence[Row]) -> Iterator[str]:
    def cell(row: Row) -> str:
        return f"{row.slices[0].loss:.3f} → {row.slices[-1].loss:.3f}"

    return _jobs_table("loss, first → last slice", rows, cell)


def _jobs_table(what: str, rows: Sequence[Row], cell: Callable[[Row], str]) -> Iterator[str]:
    """Empty where a peer does not do a job."""
    jobs = [*dict.fromkeys(row.job for row in rows)]
    cells = {(row.peer.title, row.job): "failed †" if row.failure else cell(row) for row in rows}
    titles = dict.fromkeys(row.peer.title for row in rows)
    return table(
        [what, *(f"{job.network_name}, {job.batch_size}" for job in jobs)],
        ([title, *(cells.get((title, job), "") for job in jobs)] for title in titles),
    )


def ratio(row: Row, ours: Row) -> float:
    """Median over the rounds, so that both sides of each quotient were measured within a minute or so."""
    return statistics.median(theirs / mine for theirs, mine in zip(row.epochs, ours.epochs, strict=True))


def notes(rows: Sequence[Row], rounds: int, gpu: str | None) -> Iterator[str]:
    """gpu: its name, where one was measured."""
    peaks = [peak for row in rows for peak in row.peaks]
    if peaks and max(peaks) > STEADY * min(peaks):
        yield "**The machine was unsteady, or others used it: see its peaks below, and measure again.**\n"
    yield f"{', '.join(filter(None, (gpu, machine())))}."
    versions = {name: version for row in rows for each in row.slices for name, version in each.versions.items()}
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n"
    yield (
        f"- Seconds an epoch ({EPOCH_IMAGES:,} images): median of n = {rounds} rounds, warm, least and most in "
        f"brackets; *× ours*: median of the rounds' quotients, above 1 is slower than Inkling.{extrapolations(rows)}"
    )
    yield (
        "- GFLOP/s: 6 Σk − 2 k₁ operations an image, k the multiply-adds of each layer's product or convolution, k₁ "
        f"the first one's. *Of peak*: of what a {MATRIX_SIDE}² float32 product {'in JAX' if gpu else 'in NumPy'} "
        f"reaches just before each slice, {spread(peaks)} GFLOP/s; median of the rounds' quotients."
    )
    yield (
        "- Start to first epoch: from the start of the Python process, n = 1: imports, reading the data, compiling, "
        "one epoch. Cold, and where one figure stands alone: the peer's compile caches are empty; warm: it has run "
        "before (Inkling and `torch.compile` keep what they compiled; by default the others do not)."
    )
    yield "- Peak memory: the most that the process had resident, with the images, in all rounds."
    for row in rows:
        for warning in row.warnings():
            yield f"- † {row.job.network_name}, {row.job.batch_size}, {row.peer.title}: {warning}."


def extrapolations(rows: Sequence[Row]) -> str:
    jobs = dict.fromkeys(row.job for row in rows if row.job.images < EPOCH_IMAGES)
    parts = [f"{job.network_name} at {job.batch_size} from {job.steps:,} steps of {job.epoch_steps:,}" for job in jobs]
    return f" Extrapolated: {'; '.join(parts)}." if parts else ""
