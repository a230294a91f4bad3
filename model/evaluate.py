"""How good a network is: loss, accuracy, scores of each digit, confusion matrix, calibration, hardest images.

Shapes: N images in the data, B in a batch, C = 10 classes.
"""

import base64
import io
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray
from PIL import Image

from model import network as net
from model.convolution import window_numbers
from model.data import Dataset
from model.inference import Confidence, calibrated_probabilities
from model.losses import DivergedError, correct_per_example, label_ranks, loss_per_example
from model.scores import Calibration, CalibrationBin, DigitScores, Evaluation, HardImage, MeanScores
from model.spec import Loss, TrainSpec, top_k
from model.spec_layers import CLASSES, Layer, layer_shapes

BATCH_SIZE = 500
LEAST_BATCH_SIZE = 64  # with fewer images a convolution does not keep all cores busy
LAYER_NUMBERS = 16_000_000  # that a layer gives for a batch: 64 MB, unless LEAST_BATCH_SIZE gives more
NOT_FINITE = "the network's outputs are not finite; try a smaller learning rate"
CALIBRATION_BINS = 10
HARDEST = 25

Arrays = Array | NDArray[np.uint8]  # on the device, or still on the host


def evaluate(
    parameters: net.NetworkParameters, dataset: Dataset, spec: TrainSpec, confidence: Confidence | None = None
) -> Evaluation:
    """The full report of a network on a dataset: the same numbers each time on the same `hardware`.

    Confidences are those that are served, calibrated; the loss is the training's. Raises DivergedError for outputs
    that are not finite.
    """
    logits = logits_of(parameters, dataset.images, network=spec.network)
    losses, correct, _ = _score(logits, dataset.labels, spec)
    temperature = confidence.temperature if confidence else 1.0
    probabilities = np.asarray(_calibrated(logits, temperature, spec=spec))  # [N, C]
    matrix = confusion_matrix(dataset.labels, probabilities.argmax(axis=1))
    return Evaluation(
        loss=float(losses.mean()),
        accuracy=float(correct.mean()),
        per_class=per_class(matrix),
        confusion_matrix=matrix.tolist(),
        calibration=calibration(probabilities.max(axis=1), correct),
        hardest=_hardest(losses, probabilities, dataset),
    )


def mean_scores(parameters: net.NetworkParameters, images: Arrays, labels: Arrays, spec: TrainSpec) -> MeanScores:
    """The means that the spec's metrics ask for, of [N, 28, 28] images and [N] labels, uint8.

    What lies on the device is scored there. Raises DivergedError for outputs that are not finite.
    """
    losses, correct, ranks = _score(logits_of(parameters, images, network=spec.network), labels, spec)
    scores = MeanScores(float(losses.mean()), float(correct.mean()))
    if k := top_k(spec):
        scores = scores._replace(top_k=float((ranks < k).mean()))
    if "per_class_accuracy" in spec.metrics:
        digits = jax.device_get(labels)
        of_class = [correct[digits == digit] for digit in range(CLASSES)]
        scores = scores._replace(per_class=tuple(float(c.mean()) if len(c) else None for c in of_class))
    return scores


def confusion_matrix(labels: NDArray[np.uint8], digits: NDArray[np.integer]) -> NDArray[np.int64]:
    """[C, C]: how often each true digit (row) was named as each digit (column)."""
    return np.bincount(labels.astype(np.int64) * CLASSES + digits, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def per_class(matrix: NDArray[np.int64]) -> list[DigitScores]:
    """From a confusion matrix; a score whose divisor is zero is 0."""
    counts = zip(matrix.diagonal().tolist(), matrix.sum(axis=0).tolist(), matrix.sum(axis=1).tolist(), strict=True)
    return [
        DigitScores(
            digit=digit,
            precision=right / max(named, 1),
            recall=right / max(support, 1),
            f1=2 * right / max(named + support, 1),
            support=support,
        )
        for digit, (right, named, support) in enumerate(counts)
    ]


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


def finite_logits(parameters: net.NetworkParameters, images: Arrays, spec: TrainSpec) -> Array:
    """As `logits_of`. Raises DivergedError where one is not finite."""
    logits = logits_of(parameters, images, network=spec.network)
    if not np.isfinite(logits).all():
        raise DivergedError(NOT_FINITE)
    return logits


@partial(jax.jit, static_argnames="network")
def logits_of(parameters: net.NetworkParameters, images: Arrays, *, network: tuple[Layer, ...]) -> Array:
    """The network's logits, [N, C] float32, of [N, 28, 28] uint8: in batches of one size, so that memory is bounded."""
    batch_size = scoring_batch_size(network)
    padded = jnp.pad(images, ((0, -len(images) % batch_size), (0, 0), (0, 0)))
    batches = padded.reshape(-1, batch_size, *images.shape[1:])
    logits = lax.map(lambda batch: net.apply(parameters, batch, network=network), batches)
    return logits.reshape(-1, CLASSES)[: len(images)]


def scoring_batch_size(network: tuple[Layer, ...]) -> int:
    """Images that are scored at once: BATCH_SIZE, and fewer for a network with large layers."""
    fitting = LAYER_NUMBERS // largest_layer(network)
    return min(BATCH_SIZE, max(LEAST_BATCH_SIZE, fitting - fitting % 4))  # a convolution takes four pieces


def largest_layer(network: tuple[Layer, ...]) -> int:
    """Numbers that it gives for an image, or gathers for it."""
    return max(max(math.prod(shape.output_shape), window_numbers(shape)) for shape in layer_shapes(network))


_calibrated = jax.jit(calibrated_probabilities, static_argnames="spec")


def _score(
    logits: Array, labels: Arrays, spec: TrainSpec
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]:
    """Loss, correctness and label's rank of each example, [N] each; the loss as float64: its mean must not round."""
    losses, correct, ranks = jax.device_get(_scored(logits, labels, loss=spec.loss, network=spec.network))
    if not np.isfinite(losses).all():
        raise DivergedError(NOT_FINITE)
    return losses.astype(np.float64), correct, ranks


@partial(jax.jit, static_argnames=("loss", "network"))
def _scored(logits: Array, labels: Array, *, loss: Loss, network: tuple[Layer, ...]) -> tuple[Array, Array, Array]:
    return (
        loss_per_example(logits, labels, loss=loss, network=network),
        correct_per_example(logits, labels, network=network),
        label_ranks(logits, labels, network=network),
    )


def _hardest(losses: NDArray[np.float64], probabilities: NDArray[np.float32], dataset: Dataset) -> list[HardImage]:
    return [
        HardImage(
            index=index,
            label=int(dataset.labels[index]),
            digit=int(probabilities[index].argmax()),
            confidence=float(probabilities[index].max()),
            image=_png_data_url(dataset.images[index]),
        )
        for index in np.argsort(-losses, kind="stable")[:HARDEST].tolist()
    ]


def _png_data_url(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
