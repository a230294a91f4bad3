"""How well a model tells digits from what people draw that is none, and whether its confidence can be believed.

    .venv/bin/python -m benchmarks.rejection --model model.safetensors
    .venv/bin/python -m benchmarks.rejection --preset quick --drawings pen_drawings.npz

AUROC: the chance that a digit of MNIST's test set has a higher score than a drawing that is no digit. Those are made
by tests/not_digits.py and prepared as every drawing is; one that is refused as blank has the lowest score.
"""

import argparse
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from numpy.typing import NDArray

from app.settings import Settings
from benchmarks.recognition import prepare
from model.checkpoint import confidence_of, from_bytes
from model.compilation import configure_jax
from model.data import Mnist, load_mnist
from model.evaluate import evaluate
from model.finish import finished
from model.inference import answer
from model.presets import PRESETS
from model.reports import FitResult
from model.train import fit
from tests.not_digits import KINDS, prepared, several

BATCH = 500


class Judged(NamedTuple):
    scores: NDArray[np.float32]  # of each drawing; -inf where it was refused as blank
    digits: NDArray[np.int64]  # that it was taken for


def main() -> None:
    arguments = parse_arguments()
    cache_dir = Settings().cache_dir
    configure_jax(cache_dir)
    mnist = load_mnist(cache_dir)
    model = Model(arguments.model.read_bytes() if arguments.model else train(arguments.preset, mnist))
    report = evaluate(model.parameters, mnist.test, model.spec, model.confidence)
    print(
        f"{model.spec.name}: accuracy {report.accuracy:.2%}, temperature {model.confidence.temperature:.3f}", end=", "
    )
    print(f"expected calibration error {report.calibration.expected_calibration_error:.2%} (n = {len(mnist.test)})")
    digits = model.judge(mnist.test.images).scores
    print(f"test digits refused: {(digits < 0).mean():.2%}")
    rejected = [of_kind(model, kind, digits) for kind in not_digits(mnist, arguments)]
    everything = np.concatenate(rejected)
    print(f"all: AUROC {auroc(digits, everything):.4f}, passed {(everything >= 0).mean():.1%}, n = {len(everything)}")
    if arguments.drawings:
        of_pens(model, arguments.drawings, everything)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--model", type=Path, help="a safetensors file")
    chosen.add_argument("--preset", choices=PRESETS, help="trained first")
    parser.add_argument("--drawings", type=Path, help="an .npz file of digits drawn with a pen: how many are refused")
    parser.add_argument("--count", type=int, default=600, help="drawings of each kind")
    parser.add_argument("--seed", type=int, default=7, help="of the drawings")
    return parser.parse_args()


class Model:
    """A safetensors file that answers."""

    def __init__(self, data: bytes) -> None:
        self.spec, self.parameters = from_bytes(data)
        confidence = confidence_of(data)
        assert confidence, "a model of an older version has no confidence"
        self.confidence = confidence
        self._answer = jax.jit(partial(answer, spec=self.spec))

    def judge(self, images: NDArray[np.uint8], blanks: int = 0) -> Judged:
        """images: [N, 28, 28]; blanks: drawings that were refused before."""
        padded = np.pad(images, ((0, -len(images) % BATCH), (0, 0), (0, 0)))
        batches = [
            self._answer(self.parameters, self.confidence, padded[start : start + BATCH])
            for start in range(0, len(padded), BATCH)
        ]
        chances, scores = (np.concatenate(parts)[: len(images)] for parts in zip(*batches, strict=True))
        return Judged(np.append(scores, np.full(blanks, -np.inf, np.float32)), chances.argmax(axis=1))


def train(preset: str, mnist: Mnist) -> bytes:
    spec = PRESETS[preset].spec
    (result,) = (report for report in fit(spec, mnist.train) if isinstance(report, FitResult))
    started = time.perf_counter()
    data = finished(result.parameters, spec, mnist).data
    print(f"calibrated and evaluated in {time.perf_counter() - started:.1f} s, {len(data) / 1000:.0f} kB")
    return data


def not_digits(mnist: Mnist, arguments: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.uint8], int]]:
    for name, kind in KINDS.items():
        yield name, *prepared(kind(arguments.count, np.random.default_rng(arguments.seed)))
    random = np.random.default_rng(arguments.seed)
    yield "several digits", *prepared(several(arguments.count, random, mnist.test.images))


def of_kind(model: Model, kind: tuple[str, NDArray[np.uint8], int], digits: NDArray[np.float32]) -> NDArray[np.float32]:
    name, images, blanks = kind
    scores = model.judge(images, blanks).scores
    print(f"  {name}: AUROC {auroc(digits, scores):.4f}, passed {(scores >= 0).mean():.1%}, n = {len(scores)}", end="")
    print(f", of which {blanks} refused as blank" if blanks else "")
    return scores


def of_pens(model: Model, path: Path, everything: NDArray[np.float32]) -> None:
    drawings = prepare(path)
    judged = model.judge(drawings.images)
    right, passed = judged.digits == drawings.labels, judged.scores >= 0
    print(f"pen drawings: AUROC {auroc(judged.scores, everything):.4f}, refused {(~passed).mean():.2%}", end=", ")
    print(f"n = {len(drawings)}")
    print(f"  named right: {right.mean():.2%} of all, {right[passed].mean():.2%} of those that passed")


def auroc(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> float:
    """The chance that one of the positives is above one of the negatives; an equal one counts half."""
    ordered = np.sort(negatives)
    below, up_to = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(negatives))


if __name__ == "__main__":
    main()
