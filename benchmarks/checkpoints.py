"""What checkpoints cost a training: seconds an epoch without them, with a file, and with a database row, in turns.

    .venv/bin/python -m benchmarks.checkpoints --preset tutorial --rounds 5

They come as often as by default, and go where the command line and the service put them. The first epoch of each
training, in which its step may be compiled, is not counted.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from app.checkpoints import Checkpoints
from app.database import Database
from app.settings import Settings
from model.compilation import configure_jax
from model.data import Dataset, load_mnist
from model.files import write_atomically
from model.presets import PRESETS
from model.reports import Checkpoint, EpochReport
from model.spec import TrainSpec
from model.train import fit

RUN = "benchmark"

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
    cache = Settings().cache_dir
    configure_jax(cache)
    images = load_mnist(cache).train
    spec = PRESETS[arguments.preset].spec.model_copy(update={"epochs": arguments.epochs})
    with TemporaryDirectory(prefix="inkling-checkpoints-") as folder:
        stores = stores_in(Path(folder), arguments.database)
        laps: dict[str, list[Lap]] = {name: [] for name in stores}
        for _ in range(arguments.rounds):
            for name, store in stores.items():
                laps[name].append(trained(spec, images, store))
    report(laps, arguments.epochs - 1)


def stores_in(folder: Path, url: str | None) -> dict[str, Store | None]:
    database = Database(url or f"sqlite:///{folder / 'inkling.db'}")
    database.migrate()
    checkpoints = Checkpoints(database)
    attempt = checkpoints.begin(RUN)
    return {
        "without": None,
        "a file (`inkling train`)": lambda data: write_atomically(folder / "checkpoint", data),
        f"a row of {'PostgreSQL' if url else 'SQLite'} (service)": lambda data: checkpoints.save(RUN, attempt, data),
    }


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


def report(laps: dict[str, list[Lap]], epochs: int) -> None:
    print("| checkpoints in | seconds an epoch (least–most) | × without | each: MB, ms | share of the time | n |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, own in laps.items():
        each = [lap.seconds / epochs for lap in own]
        times = statistics.median(lap.seconds / bare.seconds for lap, bare in zip(own, laps["without"], strict=True))
        costs = [cost for lap in own for cost in lap.checkpoint_seconds]
        cost = f"{own[-1].bytes / 1e6:.1f}, {1e3 * statistics.median(costs):.0f}" if costs else ""
        share = sum(costs) / sum(lap.seconds for lap in own)
        print(
            f"| {name} | {statistics.median(each):.3f} ({min(each):.3f}–{max(each):.3f}) | {times:.3f} | {cost} "
            f"| {share:.2%} | {len(own)} trainings, {len(costs)} checkpoints |"
        )


if __name__ == "__main__":
    main()
