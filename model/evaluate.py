"""How good a network is: loss, accuracy, scores of each digit, confusion matrix, calibration, hardest images.

Shapes: N images in the data, B in a batch, C = 10 classes.
"""

import base64
import io
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from model import network as net
from model.data import Dataset
from model.losses import DivergedError, correct_per_example, label_ranks, loss_per_example
from model.spec import TrainSpec, top_k
from model.spec_layers import CLASSES, Layer

BATCH_SIZE = 500
CALIBRATION_BINS = 10
HARDEST = 25


class MeanScores(NamedTuple):
    """Means over a dataset."""

    loss: float
    accuracy: float
    top_k: float | None = None  # where the spec's metrics ask for it
    per_class: tuple[float | None, ...] | None = None  # [C], the same


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class DigitScores(_Report):
    """How well one digit is told from the others."""

    digit: int = Field(description="The digit", examples=[7])
    precision: float = Field(description="Share of the images named so that are it (0 when none was)", examples=[0.98])
    recall: float = Field(description="Share of its images that are named so", examples=[0.97])
    f1: float = Field(description="Harmonic mean of precision and recall", examples=[0.975])
    support: int = Field(description="Its images", examples=[1028])


class CalibrationBin(_Report):
    """The answers whose confidence falls into one tenth of 0..1."""

    confidence: float = Field(description="Their mean confidence (0 when empty)", examples=[0.95])
    accuracy: float = Field(description="Share of them that is right (0 when empty)", examples=[0.94])
    count: int = Field(description="How many they are", examples=[312])


class Calibration(_Report):
    """Whether a confidence of 0.9 is right nine times in ten."""

    expected_calibration_error: float = Field(
        description="Mean over the answers of |confidence - accuracy| of their bin (Guo et al. 2017, eq. 3)",
        examples=[0.004],
    )
    bins: list[CalibrationBin] = Field(description="Ten equal bins from 0 to 1")


class HardImage(_Report):
    """A test image on which the loss is large."""

    index: int = Field(description="Its place in the test set", examples=[1247])
    label: int = Field(description="What it is", examples=[9])
    digit: int = Field(description="What the model names", examples=[5])
    confidence: float = Field(description="Probability that the model gives to its answer", examples=[0.99])
    image: str = Field(description="The 28 × 28 image as a PNG data URL", examples=["data:image/png;base64,iVBORw0…"])


class Evaluation(_Report):
    """A model's full report on the test set."""

    loss: float = Field(description="Mean loss of the training's kind, without dropout", examples=[0.081])
    accuracy: float = Field(description="Share of right answers", examples=[0.9778])
    per_class: list[DigitScores] = Field(description="One entry a digit, 0 to 9")
    confusion_matrix: list[list[int]] = Field(
        description="10 rows of 10 counts: the true digit's row, the named digit's column",
        examples=[[[980 if row == column else 0 for column in range(CLASSES)] for row in range(CLASSES)]],
    )
    calibration: Calibration = Field(description="Whether its confidence can be believed")
    hardest: list[HardImage] = Field(description="The images with the largest loss, largest first")


def evaluate(parameters: net.NetworkParameters, dataset: Dataset, spec: TrainSpec) -> Evaluation:
    """The full report of a network on a dataset; the same parameters and device give the same numbers.

    Raises DivergedError for outputs that are not finite.
    """
    logits = _logits_of(parameters, dataset, spec)
    losses, correct = _score(logits, dataset, spec)
    chances = np.asarray(net.probabilities(jnp.asarray(logits), spec=spec))  # [N, C]
    matrix = confusion_matrix(dataset.labels, chances.argmax(axis=1))
    return Evaluation(
        loss=float(losses.mean()),
        accuracy=float(correct.mean()),
        per_class=per_class(matrix),
        confusion_matrix=matrix.tolist(),
        calibration=calibration(chances.max(axis=1), correct),
        hardest=_hardest(losses, chances, dataset),
    )


def mean_scores(parameters: net.NetworkParameters, dataset: Dataset, spec: TrainSpec) -> MeanScores:
    """The means that the spec's metrics ask for. Raises DivergedError for outputs that are not finite."""
    logits = _logits_of(parameters, dataset, spec)
    losses, correct = _score(logits, dataset, spec)
    scores = MeanScores(float(losses.mean()), float(correct.mean()))
    if k := top_k(spec):
        ranks = label_ranks(jnp.asarray(logits), jnp.asarray(dataset.labels), network=spec.network)
        scores = scores._replace(top_k=float((np.asarray(ranks) < k).mean()))
    if "per_class_accuracy" in spec.metrics:
        of_class = [correct[dataset.labels == digit] for digit in range(CLASSES)]
        scores = scores._replace(per_class=tuple(float(c.mean()) if len(c) else None for c in of_class))
    return scores


def confusion_matrix(labels: NDArray[np.uint8], digits: NDArray[np.integer]) -> NDArray[np.int64]:
    """[C, C]: how often each true digit (row) was named as each digit (column)."""
    return np.bincount(labels.astype(np.int64) * CLASSES + digits, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def per_class(matrix: NDArray[np.int64]) -> list[DigitScores]:
    """From a confusion matrix; a score whose divisor is zero is 0."""
    scores = []
    for digit in range(CLASSES):
        right = int(matrix[digit, digit])
        named, support = int(matrix[:, digit].sum()), int(matrix[digit].sum())
        scores.append(
            DigitScores(
                digit=digit,
                precision=right / max(named, 1),
                recall=right / max(support, 1),
                f1=2 * right / max(named + support, 1),
                support=support,
            )
        )
    return scores


def calibration(confidences: NDArray[np.float32], correct: NDArray[np.bool_]) -> Calibration:
    """confidences: [N] in 0..1; correct: [N]."""
    bin_of = np.minimum((confidences * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    counts = np.bincount(bin_of, minlength=CALIBRATION_BINS)
    confidence = np.bincount(bin_of, confidences, CALIBRATION_BINS) / np.maximum(counts, 1)
    accuracy = np.bincount(bin_of, correct, CALIBRATION_BINS) / np.maximum(counts, 1)
    rows = zip(confidence.tolist(), accuracy.tolist(), counts.tolist(), strict=True)
    return Calibration(
        expected_calibration_error=float(np.sum(counts * np.abs(confidence - accuracy)) / counts.sum()),
        bins=[CalibrationBin(confidence=mean, accuracy=share, count=count) for mean, share, count in rows],
    )


def _logits_of(parameters: net.NetworkParameters, dataset: Dataset, spec: TrainSpec) -> NDArray[np.float32]:
    """[N, C], in batches of one size: the last is padded, so that one shape is compiled and memory is bounded."""
    count = len(dataset.labels)
    padding = ((0, -count % BATCH_SIZE), (0, 0), (0, 0))
    batches = np.pad(dataset.images, padding).reshape(-1, BATCH_SIZE, *dataset.images.shape[1:])
    logits = _batched_logits(parameters, jnp.asarray(batches), network=spec.network)
    return np.asarray(logits).reshape(-1, CLASSES)[:count]


@partial(jax.jit, static_argnames="network")
def _batched_logits(parameters: net.NetworkParameters, batches: Array, *, network: tuple[Layer, ...]) -> Array:
    return lax.map(lambda images: net.apply(parameters, images, network=network), batches)


def _score(
    logits: NDArray[np.float32], dataset: Dataset, spec: TrainSpec
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Loss and correctness of each example, [N] each; the loss as float64, so that its mean does not round."""
    on_device, labels = jnp.asarray(logits), jnp.asarray(dataset.labels)
    losses = loss_per_example(on_device, labels, loss=spec.loss, network=spec.network)
    if not bool(jnp.isfinite(losses).all()):
        raise DivergedError("the network's outputs are not finite; try a smaller learning rate")
    correct = correct_per_example(on_device, labels, network=spec.network)
    return np.asarray(losses, np.float64), np.asarray(correct)


def _hardest(losses: NDArray[np.float64], chances: NDArray[np.float32], dataset: Dataset) -> list[HardImage]:
    return [
        HardImage(
            index=index,
            label=int(dataset.labels[index]),
            digit=int(chances[index].argmax()),
            confidence=float(chances[index].max()),
            image=_png_data_url(dataset.images[index]),
        )
        for index in np.argsort(-losses, kind="stable")[:HARDEST].tolist()
    ]


def _png_data_url(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
