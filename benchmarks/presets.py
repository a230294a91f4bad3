"""How good a preset is over several seeds, and how long it trains.

.venv/bin/python -m benchmarks.presets quick --seeds 10 --drawings DRAWINGS.npz
"""

import argparse
import platform
import statistics
from pathlib import Path
from typing import NamedTuple

import jax

from app.settings import Settings
from benchmarks.recognition import prepare
from benchmarks.reporting import machine
from model.compilation import configure_jax
from model.data import Dataset, load_mnist
from model.evaluate import mean_scores
from model.presets import PRESETS
from model.reports import EpochReport, FitResult
from model.spec import TrainSpec
from model.train import fit


class Measured(NamedTuple):
    """Of one training: accuracies in %, and its seconds, in which the first of a process may compile its step."""

    accuracies: dict[str, float]  # by what was recognised
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--seeds", type=int, default=5, help="trainings, seeded one after the other")
    parser.add_argument("--first-seed", type=int, default=0, help="the seed of the first")
    parser.add_argument("--drawings", type=Path, help="an .npz file of digits drawn with a pen, to be recognised too")
    arguments = parser.parse_args()
    configure_jax(Settings().cache_dir)
    mnist = load_mnist(Settings().cache_dir)
    spec = PRESETS[arguments.preset].spec
    judges = {"MNIST's test set": mnist.test}
    if arguments.drawings:
        judges["pen drawings"] = prepare(arguments.drawings)
    results = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        results.append(measure(spec.model_copy(update={"seed": seed}), mnist.train, judges))
        right = ", ".join(f"{accuracy:.2f} % of {name}" for name, accuracy in results[-1].accuracies.items())
        print(f"seed {seed}: {right} in {results[-1].seconds:.1f} s", flush=True)
    report(arguments.preset, results)


def measure(spec: TrainSpec, examples: Dataset, judges: dict[str, Dataset]) -> Measured:
    seconds = 0.0
    for result in fit(spec, examples):
        if isinstance(result, EpochReport):
            seconds += result.seconds
        if isinstance(result, FitResult):
            scores = {
                name: mean_scores(result.parameters, judge.images, judge.labels, spec) for name, judge in judges.items()
            }
            return Measured({name: 100 * score.accuracy for name, score in scores.items()}, seconds)
    raise AssertionError("fit ends with a FitResult")


def report(preset: str, results: list[Measured]) -> None:
    print(f"{preset}, n = {len(results)} seeds; {machine()}")
    print(f"Python {platform.python_version()}, JAX {jax.__version__} on {jax.default_backend()}")
    for name in results[0].accuracies:
        accuracies = [result.accuracies[name] for result in results]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(f"{name}: mean {statistics.mean(accuracies):.2f} %, standard deviation {spread:.2f}", end=", ")
        print(f"least {min(accuracies):.2f}, most {max(accuracies):.2f}")
    print(f"training: median {statistics.median(result.seconds for result in results):.1f} s")


if __name__ == "__main__":
    main()
