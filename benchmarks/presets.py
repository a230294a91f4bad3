"""How good a preset is over several seeds, and how long it trains.

python benchmarks/presets.py quick --seeds 10
"""

import argparse
import os
import platform
import statistics
from pathlib import Path

import jax

from model.data import Mnist, load_mnist
from model.evaluate import mean_scores
from model.presets import PRESETS
from model.reports import EpochReport, FitResult
from model.spec import TrainSpec
from model.train import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--seeds", type=int, default=5, help="trainings, seeded one after the other")
    parser.add_argument("--first-seed", type=int, default=0, help="the seed of the first")
    arguments = parser.parse_args()
    mnist = load_mnist(Path(os.environ.get("INKLING_CACHE_DIR", "~/.cache/inkling")).expanduser())
    spec = PRESETS[arguments.preset].spec
    results = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        results.append(measure(spec.model_copy(update={"seed": seed}), mnist))
        print(f"seed {seed}: {results[-1][0]:.2f} % in {results[-1][1]:.1f} s", flush=True)
    report(arguments.preset, *zip(*results, strict=True))


def measure(spec: TrainSpec, mnist: Mnist) -> tuple[float, float]:
    """Test accuracy in %, and seconds of training with the compilation of its one step."""
    seconds = 0.0
    for result in fit(spec, mnist.train):
        if isinstance(result, EpochReport):
            seconds += result.seconds
        if isinstance(result, FitResult):
            return 100 * mean_scores(result.parameters, mnist.test, spec).accuracy, seconds
    raise AssertionError("fit ends with a FitResult")


def report(preset: str, accuracies: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"{preset}, n = {len(accuracies)} seeds; {os.cpu_count()} × {platform.processor() or platform.machine()}")
    print(f"Python {platform.python_version()}, JAX {jax.__version__} on {jax.default_backend()}")
    print(f"test accuracy: mean {statistics.mean(accuracies):.2f} %, standard deviation {spread:.2f}", end=", ")
    print(f"least {min(accuracies):.2f}, most {max(accuracies):.2f}")
    print(f"training: median {statistics.median(seconds):.1f} s, with compilation")


if __name__ == "__main__":
    main()
