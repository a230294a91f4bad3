"""Fits what `model.inference` answers with: a temperature, Gaussians of the digits' pictures, and a threshold.

Shapes: N images, C = 10 digits, K principal components, G Gaussians.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from model import network as net
from model.augment import augment
from model.data import Dataset, split
from model.evaluate import BATCH_SIZE, finite_logits
from model.inference import LEAST_PROBABILITY, Confidence, DigitScale, Gaussians, digit_scores, signs
from model.kept import kept
from model.spec import TrainSpec
from model.spec_augmentation import Augmentation
from model.spec_layers import CLASSES, DIGIT_CENTRE, DIGIT_SIDE, IMAGE_SIDE

ENOUGH_HELD_OUT = 1_000  # images, to fit a temperature on
IMAGES = 10_000  # that Gaussians and threshold are fitted on, plain and varied: more change little
COMPONENTS = 64
SHRINKAGE = 0.05  # of each covariance towards the mean of all, so that few images do not make it singular
REFUSED = 0.02  # share of the varied digits; of MNIST's own test digits, which vary less, about half of it
TEMPERATURES = (0.05, 20.0)
BISECTIONS = 40

# People's digits differ from MNIST's as these do: a model is asked about them, and is never trained on them.
VARIATION = Augmentation(shift=1.0, rotation=12.0, scale=0.08, shear=12.0, elastic=0.8, thickness=0.5)

Pictures = NDArray[np.float32]  # [N, 28, 28] in 0..1


def fit_confidence(
    parameters: net.NetworkParameters, spec: TrainSpec, dataset: Dataset, cache_dir: Path | None = None
) -> Confidence:
    """The same parameters, data and device give the same numbers.

    dataset: all training images, of which the spec's validation split was held out. The temperature is fitted on what
    was held out; where that is less than ENOUGH_HELD_OUT, it is 1: on images that it knows, a network is always sure.
    cache_dir: keeps what follows from the images alone, nearly all of the work, for the next training.
    Raises DivergedError for outputs that are not finite.
    """
    examples, held_out = split(dataset, spec.validation_split)
    unseen = held_out if held_out and len(held_out) >= ENOUGH_HELD_OUT else None
    temperature = _temperature(parameters, spec, unseen) if unseen else 1.0
    known = _last(examples)
    scaled_on = _last(unseen) if unseen else known
    inputs = (known.images, known.labels, scaled_on.images, scaled_on.labels)
    arrays = kept(cache_dir and cache_dir / "confidence", partial(_of_images, known, scaled_on), *inputs)
    varied = arrays.pop("varied")
    gaussians = Gaussians(**arrays)
    return Confidence(temperature, gaussians, _scale(parameters, spec, varied, temperature, gaussians))


def _of_images(known: Dataset, scaled_on: Dataset) -> dict[str, NDArray[Any]]:
    """The Gaussians of the one, and the other as it is when people draw it, [N, 28, 28] uint8."""
    varied = _varied(known)
    gaussians = _gaussians(known, varied)
    seen = varied if scaled_on is known else _varied(scaled_on)
    return {**gaussians._asdict(), "varied": np.rint(seen * 255).astype(np.uint8)}


def _last(dataset: Dataset) -> Dataset:
    return Dataset(dataset.images[-IMAGES:], dataset.labels[-IMAGES:])


def _temperature(parameters: net.NetworkParameters, spec: TrainSpec, held_out: Dataset) -> float:
    probabilities = net.probabilities(finite_logits(parameters, held_out.images, spec), spec=spec)
    log_probabilities = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST_PROBABILITY))
    return best_temperature(log_probabilities, held_out.labels)


def best_temperature(logits: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Minimises the mean of -log softmax(logits / temperature)[label] within TEMPERATURES (Guo et al. 2017).

    It is convex in the inverse temperature, so its slope there is bisected. logits: [N, C]; labels: [N].
    """
    of_label = np.take_along_axis(logits, labels[:, None].astype(np.intp), axis=1)[:, 0]
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        weights = np.exp(middle * (logits - logits.max(axis=1, keepdims=True)))
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        low, high = (low, middle) if (expected - of_label).mean() > 0 else (middle, high)
    return 2 / (low + high)


def _gaussians(dataset: Dataset, varied: Pictures) -> Gaussians:
    plain = _scaled(dataset.images)
    pictures, labels = np.concatenate([plain, varied]), np.tile(dataset.labels, 2)
    projection = _principal_components(pictures)
    groups = [*(pictures[labels == digit] for digit in range(CLASSES)), *_rows_of_digits(plain)]
    return fitted([_flat(group) @ projection for group in groups], projection)


def fitted(groups: list[NDArray[np.float32]], projection: NDArray[np.float32]) -> Gaussians:
    """The Gaussian of each group of projected pictures, [N, K] each; one with fewer than two is the mean of all."""
    everything = np.concatenate(groups).astype(np.float64)
    moments = [(group if len(group) > 1 else everything).astype(np.float64) for group in groups]
    means = [group.mean(axis=0) for group in moments]
    covariances = [np.cov(group.T) for group in moments]
    common = np.mean(covariances, axis=0) + 1e-4 * np.eye(projection.shape[1])
    shrunk = [(1 - SHRINKAGE) * covariance + SHRINKAGE * common for covariance in covariances]
    whitening = [np.linalg.inv(np.linalg.cholesky(covariance)).T for covariance in shrunk]
    return Gaussians(
        projection,
        np.concatenate(whitening, axis=1).astype(np.float32),
        np.concatenate([mean @ white for mean, white in zip(means, whitening, strict=True)]).astype(np.float32),
        np.array([np.linalg.slogdet(covariance)[1] for covariance in shrunk], np.float32),
    )


def _principal_components(pictures: Pictures) -> NDArray[np.float32]:
    """[784, K], those with the largest variances."""
    covariance = np.cov(_flat(pictures).T, dtype=np.float32)  # in half the time of float64, to 1e-6 the same
    _, vectors = np.linalg.eigh(covariance)  # in the order of their variances, least first
    return np.ascontiguousarray(vectors[:, -COMPONENTS:])


def _scaled(images: NDArray[np.uint8]) -> Pictures:
    return images.astype(np.float32) / np.float32(255)


def _flat(pictures: Pictures) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), -1)


def _varied(dataset: Dataset) -> Pictures:
    """The same pictures always, each varied in its own way; in batches of one size, so that one shape is compiled."""
    pictures, missing = _scaled(dataset.images), -len(dataset) % BATCH_SIZE
    padded, padded_labels = np.pad(pictures, ((0, missing), (0, 0), (0, 0))), np.pad(dataset.labels, (0, missing))
    batches = [slice(start, start + BATCH_SIZE) for start in range(0, len(padded), BATCH_SIZE)]
    varied = [
        np.asarray(_vary(jnp.asarray(padded[batch]), jnp.asarray(padded_labels[batch]), jax.random.key(batch.start)))
        for batch in batches
    ]
    return np.concatenate(varied)[: len(pictures)]


@jax.jit
def _vary(pictures: Array, labels: Array, key: Array) -> Array:
    return augment(pictures, labels, key, augmentation=VARIATION)


def _rows_of_digits(pictures: Pictures) -> Iterator[Pictures]:
    """Two digits in a row, and three, as model.drawing would prepare them: the row's width is that of a digit."""
    for digits in (2, 3):
        yield np.asarray(_rows(jnp.asarray(pictures), digits=digits))


@partial(jax.jit, static_argnames="digits")
def _rows(pictures: Array, *, digits: int) -> Array:
    count, side = len(pictures) // digits, round(IMAGE_SIDE / digits)
    small = jax.image.resize(pictures, (len(pictures), side, side), "linear")  # antialiased
    columns = small[: digits * count].reshape(digits, count, side, side)
    step = round(DIGIT_SIDE / digits)
    rows = jnp.zeros((count, IMAGE_SIDE, IMAGE_SIDE))
    for index in range(digits):
        top = DIGIT_CENTRE - side // 2
        left = top + round((index - (digits - 1) / 2) * step)
        rows = rows.at[:, top : top + side, left : left + side].max(columns[index])
    return rows / jnp.maximum(jnp.max(rows, axis=(1, 2), keepdims=True), 1e-3)


def _scale(
    parameters: net.NetworkParameters,
    spec: TrainSpec,
    images: NDArray[np.uint8],
    temperature: float,
    gaussians: Gaussians,
) -> DigitScale:
    """From varied digits: what the network is shown in training makes it surer than what people draw."""
    logits = finite_logits(parameters, images, spec)
    # Jitted: an operation by itself is a program too, and each is lowered and looked up on disk.
    found = jax.jit(signs)(logits, jnp.asarray(images), temperature, gaussians)
    (energy_mean, energy_spread), (likelihood_mean, likelihood_spread) = map(_mean_and_spread, found[:2])
    scale = DigitScale(energy_mean, energy_spread, likelihood_mean, likelihood_spread, 0.0)
    sums = jax.jit(digit_scores)(found._replace(rivalry=np.full(len(images), np.inf, np.float32)), scale)
    return scale._replace(threshold=float(np.quantile(np.asarray(sums, np.float64), REFUSED)))


def _mean_and_spread(sign: Array) -> tuple[float, float]:
    """The spread is kept above 0, for a network that answers all alike."""
    values = np.asarray(sign, np.float64)
    return float(values.mean()), max(float(values.std()), 1e-6)
