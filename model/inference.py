"""What a served model answers: calibrated probabilities, and how much the picture looks like a digit at all.

The score joins two signs of a digit: that the network is sure (the energy of its logits, Liu et al. 2020), and that
the picture is like those of some digit (its likelihood under a Gaussian of each digit's pictures, after Lee et al.
2018); it does not pass where several digits in a row are the likelier explanation (Ren et al. 2019).

Shapes: B images in a batch, C = 10 digits, K principal components, G Gaussians: one a digit and some of rivals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from model import network as net
from model.spec import TrainSpec
from model.spec_layers import CLASSES

LEAST_PROBABILITY = 1e-30  # a float32 whose logarithm is finite
BLANK_SCORE = -10.0  # of a picture without ink, which networks are sure of as of any other

Floats = NDArray[np.float32] | Array


class Gaussians(NamedTuple):
    """What pictures of each digit are like, and then what those of their rivals are like: several digits in a row.

    A picture x [784] in 0..1 has the squared Mahalanobis distance |x · projection · whitening - offsets|² of group g,
    and -2 times its log-likelihood is that and log_determinants[g], but for a constant.
    """

    projection: Floats  # [784, K]
    whitening: Floats  # [K, G · K]
    offsets: Floats  # [G · K], the means of the groups, whitened
    log_determinants: Floats  # [G], of their covariances


class DigitScale(NamedTuple):
    """Makes one score of energy and likelihood: each less its mean over digits, in standard deviations."""

    energy_mean: float
    energy_spread: float
    likelihood_mean: float
    likelihood_spread: float
    threshold: float  # of their sum, below which a picture is refused


class Confidence(NamedTuple):
    """What is fitted after a training and served with its parameters."""

    temperature: float  # logits are divided by it (Guo et al. 2017); 1 changes nothing
    gaussians: Gaussians
    scale: DigitScale


class Signs(NamedTuple):
    """What tells digits from other pictures, [B] float32 each; high speaks for a digit."""

    energy: Array  # T · logsumexp(logits / T)
    likelihood: Array  # 2 · log-likelihood under the digit that explains the picture best, but for a constant
    rivalry: Array  # that less the same under the best of the rivals


def answer(
    parameters: net.NetworkParameters, confidence: Confidence | None, images: Array, *, spec: TrainSpec
) -> tuple[Array, Array]:
    """The digits' probabilities and how much each image looks like a digit; an image's answer is its own alone.

    images: [B, 28, 28] uint8, ink high, as model.drawing prepares them. Returns [B, C] float32, each row summing to 1,
    and [B] float32: 0 or more is a digit. Without a confidence, as in models of older versions, temperature is 1 and
    nothing is refused but what is blank: the score is the largest probability.
    """
    logits = net.apply(parameters, images, network=spec.network)
    if confidence is None:
        probabilities = net.probabilities(logits, spec=spec)
        scores = jnp.max(probabilities, axis=-1)
    else:
        probabilities = calibrated_probabilities(logits, confidence.temperature, spec=spec)
        seen = signs(logits, images, confidence.temperature, confidence.gaussians)
        scores = digit_scores(seen, confidence.scale)
    return probabilities, jnp.where(jnp.any(images > 0, axis=(1, 2)), scores, BLANK_SCORE)


def calibrated_probabilities(logits: Array, temperature: float | Array, *, spec: TrainSpec) -> Array:
    """softmax(log p / temperature) of the network's probabilities p, which is softmax(logits / temperature) where they
    are a softmax (Guo et al. 2017, section 4.2). [B, C] float32."""
    probabilities = net.probabilities(logits, spec=spec)
    return jax.nn.softmax(jnp.log(jnp.maximum(probabilities, LEAST_PROBABILITY)) / temperature)


def signs(logits: Array, images: Array, temperature: float | Array, gaussians: Gaussians) -> Signs:
    """logits: [B, C] float32; images: [B, 28, 28] uint8."""
    likelihoods = _likelihoods(net.scale(images), gaussians)  # [B, G]
    best = jnp.max(likelihoods[:, :CLASSES], axis=-1)
    return Signs(energy(logits, temperature), best, best - jnp.max(likelihoods[:, CLASSES:], axis=-1))


def energy(logits: Array, temperature: float | Array) -> Array:
    """[B] float32: the negative free energy T · logsumexp(logits / T) (Liu et al. 2020, eq. 4)."""
    return temperature * jax.nn.logsumexp(logits / temperature, axis=-1)


def digit_scores(signs: Signs, scale: DigitScale) -> Array:
    """[B] float32: 0 or more where both signs together pass the threshold and no rival explains the picture better."""
    sum_of_both = (signs.energy - scale.energy_mean) / scale.energy_spread
    sum_of_both += (signs.likelihood - scale.likelihood_mean) / scale.likelihood_spread
    return jnp.minimum(sum_of_both - scale.threshold, signs.rivalry / scale.likelihood_spread)


def _likelihoods(pictures: Array, gaussians: Gaussians) -> Array:
    """Twice the log-likelihoods but for a constant, [B, G]; pictures: [B, 28, 28] float32 in 0..1."""
    # In full float32: a GPU's fast products have ten bits, and squared distances are differences of large numbers.
    projected = jnp.matmul(pictures.reshape(len(pictures), -1), gaussians.projection, precision=lax.Precision.HIGHEST)
    whitened = jnp.matmul(projected, gaussians.whitening, precision=lax.Precision.HIGHEST) - gaussians.offsets[None]
    groups = gaussians.log_determinants.shape[0]
    squared_distances = jnp.sum(jnp.square(whitened.reshape(-1, groups, projected.shape[1])), axis=-1)
    return -squared_distances - gaussians.log_determinants[None]
