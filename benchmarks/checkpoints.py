"""What checkpoints cost a training: seconds an epoch without them, with a file, and with a database row, in turns.

    .venv/bin/python -m benchmarks.checkpoints --preset tutorial --rounds 5

They come as often as by default, and go where the command line and the service put them. The first epoch of each
training, in which its step may be compiled, is not counted.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from app.checkpoints import Checkpoints
from app.database import Database
from app.settings import Settings
from benchmarks.reporting import spread, table
from benchmarks.turns import in_turn
from model.compilation import configure_jax
from model.data import Dataset, load_mnist
from model.files import write_atomically
from model.presets import PRESETS
from model.reports import Checkpoint, EpochReport
from model.spec import TrainSpec
from model.train import fit

RUN = "benchmark"
HEADINGS = ("checkpoints in", "seconds an epoch (least–most)", "× without", "each: MB, ms", "share of the time", "n")

Store = Callable[[bytes], None]


class Lap(NamedTuple):
    """One training: its seconds after the first epoch, and each checkpoint's, made and stored; bytes: of the last."""

    seconds: float
    checkpoint_seconds: list[float]
    bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="tutorial")
    parser.add_argument("--epochs", type=int, default=15, help="of each training; the first is not counted")
    parser.add_argument("--rounds", type=int, default=5, help="trainings without and with each kind of checkpoints")
    parser.add_argument("--database", help="a PostgreSQL's URL; else SQLite's, in the folder for temporary files")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs: at least 2, since the first is not counted")
    cache = Settings().cache_dir
    configure_jax(cache)
    images = load_mnist(cache).train
    spec = PRESETS[arguments.preset].spec.model_copy(update={"epochs": arguments.epochs})
    with (
        TemporaryDirectory(prefix="inkling-checkpoints-") as folder,
        stores_in(Path(folder), arguments.database) as stores,
    ):
        laps: dict[str, list[Lap]] = {name: [] for name in stores}
        for number in range(arguments.rounds):
            for name, store in in_turn([*stores.items()], number):
                laps[name].append(trained(spec, images, store))
    print("\n".join(table(HEADINGS, report(laps, arguments.epochs - 1))))


@contextmanager
def stores_in(folder: Path, url: str | None) -> Iterator[dict[str, Store | None]]:
    with closing(Database(url or f"sqlite:///{folder / 'inkling.db'}")) as database:
        database.migrate()
        checkpoints = Checkpoints(database)
        attempt = checkpoints.begin(RUN)
        row = f"a row of {'PostgreSQL' if url else 'SQLite'} (service)"
        try:
            yield {
                "without": None,
                "a file (`inkling train`)": lambda data: write_atomically(folder / "checkpoint", data),
                row: lambda data: checkpoints.save(RUN, attempt, data),
            }
        finally:
            checkpoints.delete(RUN)


def trained(spec: TrainSpec, images: Dataset, store: Store | None) -> Lap:
    every_seconds = Settings.model_fields["checkpoint_seconds"].default if store else math.inf
    costs: list[float] = []
    size, before = 0, time.perf_counter()
    for result in fit(spec, images, checkpoint_seconds=every_seconds):
        if isinstance(result, Checkpoint) and store:
            store(result.data)
            costs.append(time.perf_counter() - before)
            size = len(result.data)
        before = ended = time.perf_counter()
        if isinstance(result, EpochReport) and result.epoch == 1:
            started = ended
            costs.clear()
    return Lap(ended - started, costs, size)


def report(laps: dict[str, list[Lap]], epochs: int) -> Iterator[list[str]]:
    """A table row each, beside the trainings without in the same rounds."""
    for name, own in laps.items():
        times = statistics.median(lap.seconds / bare.seconds for lap, bare in zip(own, laps["without"], strict=True))
        costs = [cost for lap in own for cost in lap.checkpoint_seconds]
        each = f"{own[-1].bytes / 1e6:.1f}, {1e3 * statistics.median(costs):.0f}" if costs else ""
        share = sum(costs) / sum(lap.seconds for lap in own)
        count = f"{len(own)} trainings, {len(costs)} checkpoints"
        yield [name, spread([lap.seconds / epochs for lap in own]), f"{times:.3f}", each, f"{share:.2%}", count]


if __name__ == "__main__":
    main()
