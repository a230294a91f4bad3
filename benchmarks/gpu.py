"""How fast a GPU trains, where its time goes, and whether it computes the same bits each time.

    .venv/bin/python -m benchmarks.gpu > gpu.md
    JAX_PLATFORMS=cpu .venv/bin/python -m benchmarks.gpu --small    # a smoke test, without a GPU

It needs no service, but MNIST in the cache or within reach. Seconds are of the wall; what JAX traces and compiles is
told apart. `--json FILE` keeps every number.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from benchmarks.reporting import spread, table
from model.compilation import configure_jax
from model.data import Dataset, Mnist, load_mnist
from model.presets import PRESETS, PresetName
from model.reports import EpochReport, FitResult
from model.spec import TrainSpec
from model.spec_optimizers import Adam, OneCycle
from model.step import jitted_chunk, step_config
from model.train import fit
from model.training import Training

CACHE = Path(os.environ.get("INKLING_CACHE_DIR", "~/.cache/inkling")).expanduser()
AIMS = {"98 %": 0.98, "99 %": 0.99, "99.5 %": 0.995}
FAST = PRESETS["convnet"].spec.model_copy(
    update={
        "augmentation": None,
        "batch_size": 256,
        "optimizer": Adam(learning_rate=OneCycle(max_learning_rate=0.004)),
    }
)


def main() -> None:
    arguments = parse_arguments()
    mnist = small(load_mnist(CACHE)) if arguments.small else load_mnist(CACHE)
    with TemporaryDirectory(prefix="inkling-gpu-") as folder:
        configure_jax(Path(folder))  # where nothing is compiled yet
        if arguments.digest:
            print(digest(arguments.digest, mnist))
            return
        compilations = Compilations()
        results: dict[str, Any] = {
            "device": device(),
            "tutorial": [one_fit(mnist, compilations) for _ in range(arguments.fits)],
            "steps": step_seconds(mnist.train, arguments.fits),
            "bits": {preset: bits(preset, arguments.small) for preset in ("quick", "convnet")},
            "seconds to": [seconds_to(seed, mnist, compilations) for seed in range(arguments.seeds)],
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    print("\n".join(report(results)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fits", type=int, default=5, help="trainings of `tutorial`, and chunks of each kind of step")
    parser.add_argument("--seeds", type=int, default=30, help="trainings until the aims for accuracy")
    parser.add_argument("--json", type=Path, help="a file for every number")
    parser.add_argument("--small", action="store_true", help="2,000 images: a smoke test, not to be quoted")
    parser.add_argument("--digest", choices=PRESETS, help=argparse.SUPPRESS)
    return parser.parse_args()


def small(mnist: Mnist) -> Mnist:
    train, test = mnist
    return Mnist(Dataset(train.images[:2000], train.labels[:2000]), Dataset(test.images[:500], test.labels[:500]))


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
    """Seconds a step of `tutorial` and `convnet` takes within a chunk, by unroll and compute_dtype."""
    found = {}
    for preset in ("tutorial", "convnet"):
        for dtype in ("float32", "bfloat16"):
            for unroll in (1, 2, 4):
                spec = PRESETS[preset].spec.model_copy(update={"compute_dtype": dtype})
                found[f"{preset}, {dtype}, unroll {unroll}"] = chunk_laps(spec, images, unroll, laps)
    return found


def chunk_laps(spec: TrainSpec, images: Dataset, unroll: int, laps: int) -> list[float]:
    training = Training(spec, images)
    chunk = range(training.plan.chunk_steps - training.plan.chunk_steps % unroll)
    arguments = (training.images, training.labels, training.epoch_inputs(), training.chunk_inputs(chunk))
    state = training.state
    run = jitted_chunk(step_config(spec)._replace(unroll=unroll), training.mesh).lower(state, *arguments).compile()
    seconds = []
    for _ in range(laps + 1):
        started = time.perf_counter()
        state, _, _ = jax.block_until_ready(run(state, *arguments))
        seconds.append((time.perf_counter() - started) / len(chunk))
    return seconds[1:]


def bits(preset: str, is_small: bool) -> list[str]:
    """The SHA-256 of the parameters that each of two processes makes, which share no compiled code."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--digest", preset, *(["--small"] if is_small else [])]
    return [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1] for _ in range(2)]


def digest(preset: PresetName, mnist: Mnist) -> str:
    *_, result = fit(PRESETS[preset].spec.model_copy(update={"epochs": 1}), mnist.train)
    assert isinstance(result, FitResult), "fit ends with it"
    parameters = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.parameters))
    return hashlib.sha256(parameters).hexdigest()


def seconds_to(seed: int, mnist: Mnist, compilations: Compilations) -> dict[str, float | None]:
    """Training seconds until an epoch ends with so much of the test set named right; scoring it counts."""
    images = np.concatenate([mnist.train.images, mnist.test.images])
    labels = np.concatenate([mnist.train.labels, mnist.test.labels])
    held_out = len(mnist.test) / len(labels)  # the test set, which stands where images are held out
    spec = FAST.model_copy(update={"seed": seed, "validation_split": held_out})
    started, reached = time.perf_counter(), dict.fromkeys(AIMS)
    for report in fit(spec, Dataset(images, labels)):
        if isinstance(report, EpochReport):
            seconds = time.perf_counter() - started - compilations.seconds_since(started)
            for aim, share in AIMS.items():
                if reached[aim] is None and (report.validation_accuracy or 0.0) >= share:
                    reached[aim] = seconds
    return reached


def report(results: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(f"{name} {value}" for name, value in results["device"].items())
    for headings, rows in (
        (["`tutorial`", "training, s", "tracing and compiling, s", "n"], fits_rows(results["tutorial"])),
        (["step", "µs", "n"], ([name, spread(laps, 1e6), str(len(laps))] for name, laps in results["steps"].items())),
        (["one epoch in two processes", "bits"], bits_rows(results["bits"])),
        (["of the test set right", "training, s", "runs that reached it"], aims_rows(results["seconds to"])),
    ):
        yield ""
        yield from table(headings, rows)


def fits_rows(fits: list[dict[str, float]]) -> Iterator[list[str]]:
    for name, those in (("cold", fits[:1]), ("warm", fits[1:])):
        yield [name, *(spread([one[part] for one in those]) for part in ("training", "compiling")), str(len(those))]


def bits_rows(digests: dict[str, list[str]]) -> Iterator[list[str]]:
    for name, found in digests.items():
        yield [name, "the same" if len({*found}) == 1 else "differ"]


def aims_rows(runs: list[dict[str, float | None]]) -> Iterator[list[str]]:
    for aim in AIMS:
        times = [seconds for run in runs if (seconds := run[aim]) is not None]
        yield [aim, spread(times), f"{len(times)} of {len(runs)}"]


if __name__ == "__main__":
    main()
