"""How fast a GPU trains, where its time goes, and whether it computes the same bits each time.

    .venv/bin/python -m benchmarks.gpu > gpu.md
    JAX_PLATFORMS=cpu .venv/bin/python -m benchmarks.gpu --small    # a smoke test, without a GPU

It needs no service, but MNIST in the cache or within reach. Seconds are of the wall; what JAX traces and compiles is
told apart. `--json FILE` keeps every number.
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.reporting import spread, table
from model.compilation import configure_jax
from model.data import Dataset, Mnist, load_mnist
from model.presets import PRESETS, PresetName
from model.reports import EpochReport, FitResult
from model.spec import TrainSpec
from model.spec_optimizers import Adam, OneCycle
from model.train import fit
from model.training import Training

CACHE = Path(os.environ.get("INKLING_CACHE_DIR", "~/.cache/inkling")).expanduser()


class Aim(NamedTuple):
    """A share of the test set to be named right, and a training that soon gets there."""

    accuracy: float
    spec: TrainSpec


_FAST = PRESETS["convnet"].spec.model_copy(
    update={
        "augmentation": None,
        "batch_size": 256,
        "optimizer": Adam(learning_rate=OneCycle(max_learning_rate=0.008)),
        "compute_dtype": "bfloat16",
    }
)
# The first two were chosen on images held out of the training set, with two seeds each.
AIMS = {
    "98 %": Aim(0.98, _FAST.model_copy(update={"epochs": 1})),
    "99 %": Aim(0.99, _FAST.model_copy(update={"epochs": 4})),
    "99.5 %": Aim(0.995, PRESETS["accurate"].spec.model_copy(update={"epochs": 16, "compute_dtype": "bfloat16"})),
}


def main() -> None:
    arguments = parse_arguments()
    mnist = small(load_mnist(CACHE)) if arguments.small else load_mnist(CACHE)
    with TemporaryDirectory(prefix="inkling-gpu-") as folder:
        configure_jax(Path(folder))  # where nothing is compiled yet
        if arguments.digest:
            print(digest(arguments.digest, mnist))
            return
        print(", ".join(f"{name} {value}" for name, value in device().items()))
        results = {"device": device()}
        for name, result, headings, rows in measurements(arguments, mnist):
            results[name] = result
            print("", *table(headings, rows), sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


class Measurement(NamedTuple):
    """What was measured, and the table that tells it."""

    name: str
    result: Any
    headings: list[str]
    rows: Iterator[list[str]]


def measurements(arguments: argparse.Namespace, mnist: Mnist) -> Iterator[Measurement]:
    compilations = Compilations()
    fits = [one_fit(mnist, compilations) for _ in range(arguments.fits)]
    yield Measurement("tutorial", fits, ["`tutorial`", "training, s", "tracing and compiling, s", "n"], fits_rows(fits))
    for name, aim in AIMS.items():
        seconds = [seconds_to(aim, seed, mnist, compilations) for seed in range(arguments.seeds)]
        headings = [f"{name} of the test set right: training, s", "runs that got there"]
        yield Measurement(f"seconds to {name}", seconds, headings, aim_rows(seconds))
    steps = step_seconds(mnist.train, arguments.fits)
    yield Measurement("steps", steps, ["step", "µs", "n"], steps_rows(steps))
    counted = {preset: kernels(PRESETS[preset].spec, mnist.train) for preset in ("tutorial", "convnet")}
    headings = ["a step's kernels", "how many", "µs, each alone"]
    yield Measurement("kernels", counted, headings, kernels_rows(counted))
    same = {preset: bits(preset, arguments.small) for preset in ("quick", "convnet")}
    yield Measurement("bits", same, ["one epoch in two processes", "bits"], bits_rows(same))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fits", type=int, default=5, help="trainings of `tutorial`, and chunks of each kind of step")
    parser.add_argument("--seeds", type=int, default=30, help="trainings until the aims for accuracy")
    parser.add_argument("--json", type=Path, help="a file for every number")
    parser.add_argument("--small", action="store_true", help="300 images: a smoke test, not to be quoted")
    parser.add_argument("--digest", choices=PRESETS, help=argparse.SUPPRESS)
    return parser.parse_args()


def small(mnist: Mnist) -> Mnist:
    train, test = mnist
    return Mnist(Dataset(train.images[:300], train.labels[:300]), Dataset(test.images[:50], test.labels[:50]))


def device() -> dict[str, Any]:
    first, *_ = devices = jax.devices()
    return {
        "devices": f"{len(devices)} × {first.device_kind}",
        "platform": first.client.platform_version,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "XLA_FLAGS": os.environ["XLA_FLAGS"],
    }


class Compilations:
    """When JAX traced and compiled; one such span may lie within another."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self._spans.append((time.perf_counter() - duration_secs, time.perf_counter()))

    def seconds_since(self, started: float) -> float:
        total, until = 0.0, started
        for begun, ended in sorted(self._spans):
            total += max(0.0, ended - max(begun, until))
            until = max(until, ended)
        return total


def one_fit(mnist: Mnist, compilations: Compilations) -> dict[str, float]:
    """`tutorial` from fit() to its FitResult; the first of a process compiles, the others load what is compiled."""
    spec = PRESETS["tutorial"].spec
    started = time.perf_counter()
    *_, result = fit(spec, mnist.train)
    assert isinstance(result, FitResult), "fit ends with it"
    seconds = time.perf_counter() - started
    compiling = compilations.seconds_since(started)
    return {"seconds": seconds, "compiling": compiling, "training": seconds - compiling}


def step_seconds(images: Dataset, laps: int) -> dict[str, list[float]]:
    """Seconds a step of each preset takes within a chunk, by compute_dtype."""
    found = {}
    for preset in PRESETS:
        for dtype in ("float32", "bfloat16"):
            chunk = Chunk(PRESETS[preset].spec.model_copy(update={"compute_dtype": dtype}), images)
            found[f"{preset}, {dtype}"] = [chunk.run() / chunk.steps for _ in range(laps + 1)][1:]
    return found


class Chunk:
    """The first of a training, compiled, to be run again and again."""

    def __init__(self, spec: TrainSpec, images: Dataset) -> None:
        training = Training(spec, images)
        self.steps = training.plan.chunk_steps
        inputs = training.chunk_inputs(range(self.steps))
        self.state = training.state
        self.others = (training.images, training.labels, training.epoch_inputs(), inputs)
        self.program = training.compiled((self.state, *self.others), self.steps)

    def run(self) -> float:
        """Seconds that it took."""
        started = time.perf_counter()
        self.state, *_ = jax.block_until_ready(self.program(self.state, *self.others))
        return time.perf_counter() - started


class Kernels(NamedTuple):
    """How many a step starts, and the seconds that each takes alone, added up, while JAX looks at it."""

    count: float
    seconds: float


def kernels(spec: TrainSpec, images: Dataset) -> Kernels:
    chunk = Chunk(spec, images)
    chunk.run()
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            chunk.run()
        (trace,) = Path(folder).glob("plugins/profile/*/*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    processes = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    names = [(event, event["args"]["name"]) for event in events if event.get("name") == "thread_name"]
    streams = {(event["pid"], event["tid"]) for event, name in names if "Stream" in name}
    ran = [event["dur"] for event in events if event.get("ph") == "X" and (event["pid"], event["tid"]) in streams]
    assert all("GPU" in processes[pid] for pid, _ in streams)
    return Kernels(len(ran) / chunk.steps, sum(ran) / chunk.steps / 1e6)


def bits(preset: str, is_small: bool) -> list[str]:
    """The SHA-256 of the parameters that each of two processes makes, which share no compiled code."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--digest", preset, *(["--small"] if is_small else [])]
    return [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1] for _ in range(2)]


def digest(preset: PresetName, mnist: Mnist) -> str:
    *_, result = fit(PRESETS[preset].spec.model_copy(update={"epochs": 1}), mnist.train)
    assert isinstance(result, FitResult), "fit ends with it"
    parameters = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.parameters))
    return hashlib.sha256(parameters).hexdigest()


def seconds_to(aim: Aim, seed: int, mnist: Mnist, compilations: Compilations) -> float | None:
    """Training seconds until an epoch ends with so much of the test set named right; scoring it counts."""
    images = np.concatenate([mnist.train.images, mnist.test.images])
    labels = np.concatenate([mnist.train.labels, mnist.test.labels])
    held_out = len(mnist.test) / len(labels)  # the test set, which stands where images are held out
    spec = aim.spec.model_copy(update={"seed": seed, "validation_split": held_out})
    started = time.perf_counter()
    for report in fit(spec, Dataset(images, labels)):
        if isinstance(report, EpochReport) and (report.validation_accuracy or 0.0) >= aim.accuracy:
            return time.perf_counter() - started - compilations.seconds_since(started)
    return None


def fits_rows(fits: list[dict[str, float]]) -> Iterator[list[str]]:
    for name, those in (("cold", fits[:1]), ("warm", fits[1:])):
        yield [name, *(spread([one[part] for one in those]) for part in ("training", "compiling")), str(len(those))]


def steps_rows(steps: dict[str, list[float]]) -> Iterator[list[str]]:
    return ([name, spread(laps, 1e6), str(len(laps))] for name, laps in steps.items())


def bits_rows(digests: dict[str, list[str]]) -> Iterator[list[str]]:
    for name, found in digests.items():
        yield [name, "the same" if len({*found}) == 1 else "differ"]


def kernels_rows(counted: dict[str, Kernels]) -> Iterator[list[str]]:
    for name, found in counted.items():
        yield [name, f"{found.count:.1f}", f"{found.seconds * 1e6:.1f}"]


def aim_rows(found: list[float | None]) -> Iterator[list[str]]:
    times = [seconds for seconds in found if seconds is not None]
    mean = f"mean {statistics.mean(times):.3f}; {spread(times)}" if times else "–"
    yield [mean, f"{len(times)} of {len(found)}"]


if __name__ == "__main__":
    main()
