"""Losses and metrics of one example each; means are the caller's, who knows which examples count.

Shapes: B images in a batch, C = 10 classes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from model.network import NetworkParameters, outputs
from model.spec import CategoricalCrossentropy, Loss, LossName, loss_name
from model.spec_layers import CLASSES, Layer, final_activation

EPSILON = 1e-7  # Keras' `backend.epsilon()`


class DivergedError(ValueError):
    """The training left the finite numbers; the message says where, and what to try.

    last_good: finite weights from before, if there were any: the best epoch's where the spec has them restored, else
    those of a moment ago.
    """

    def __init__(self, message: str, last_good: NetworkParameters | None = None) -> None:
        super().__init__(message)
        self.last_good = last_good


def loss_per_example(logits: Array, labels: Array, *, loss: Loss, network: tuple[Layer, ...]) -> Array:
    """Keras' loss of that name, of the network's outputs and one-hot labels.

    logits: [B, C] float32; labels: [B] integers in 0..9. Returns [B] float32, each ≥ 0.
    """
    if loss_name(loss) == "categorical_crossentropy":
        smoothing = loss.label_smoothing if isinstance(loss, CategoricalCrossentropy) else 0.0
        return _categorical_crossentropy(logits, labels, smoothing)
    return _LOSSES[loss_name(loss)](outputs(logits, network=network), jax.nn.one_hot(labels, CLASSES))


def correct_per_example(logits: Array, labels: Array, *, network: tuple[Layer, ...]) -> Array:
    """[B] bool: whether the largest output is the label's."""
    return jnp.argmax(_scores(logits, network), axis=-1) == labels


def label_ranks(logits: Array, labels: Array, *, network: tuple[Layer, ...]) -> Array:
    """[B] int32: how many outputs are larger than the label's; below k, the label is among the k largest."""
    scores = _scores(logits, network)
    of_label = jnp.take_along_axis(scores, labels[..., None].astype(jnp.int32), axis=-1)  # [B, 1]
    return jnp.sum(scores > of_label, axis=-1)


def _scores(logits: Array, network: tuple[Layer, ...]) -> Array:
    """What the outputs are ordered by. Softmax keeps the order, so logits will do for it."""
    return logits if final_activation(network) == "softmax" else outputs(logits, network=network)


def _categorical_crossentropy(logits: Array, labels: Array, smoothing: float) -> Array:
    """-log softmax(logits)[label], through log-sum-exp so that no large logit overflows.

    Smoothed, it is (1 - smoothing) times that, and smoothing times the mean of the same over all classes.
    """
    log_probabilities = jax.nn.log_softmax(logits)  # [B, C]
    # Not indexed, since that has a scatter for its gradient, which a GPU is slow at.
    of_label = -jnp.sum(log_probabilities, axis=-1, where=jax.nn.one_hot(labels, CLASSES, dtype=bool))
    return (1 - smoothing) * of_label - smoothing * jnp.mean(log_probabilities, axis=-1) if smoothing else of_label


def _mean_squared_error(outputs: Array, targets: Array) -> Array:
    """Mean over the classes of (output - target)²."""
    return jnp.mean(jnp.square(outputs - targets), axis=-1)


def _mean_absolute_error(outputs: Array, targets: Array) -> Array:
    """Mean over the classes of |target - output|, in Keras' order: where both are equal, that decides the gradient."""
    return jnp.mean(jnp.abs(targets - outputs), axis=-1)


def _hinge(outputs: Array, targets: Array) -> Array:
    """Mean over the classes of max(1 - sign · output, 0), where the label's sign is 1 and every other's -1."""
    return jnp.mean(jnp.maximum(1 - (2 * targets - 1) * outputs, 0), axis=-1)


def _kl_divergence(outputs: Array, targets: Array) -> Array:
    """Sum over the classes of target · log(target / output), both not below EPSILON, which keeps it finite.

    So it is -log of the label's probability, as crossentropy is, but at most 16.1, with next to no gradient there.
    """
    targets, outputs = jnp.clip(targets, EPSILON, 1), jnp.clip(outputs, EPSILON, 1)
    return jnp.sum(targets * jnp.log(targets / outputs), axis=-1)


def _poisson(outputs: Array, targets: Array) -> Array:
    """Mean over the classes of output - target · log(output + EPSILON): finite, as the spec lets no output below 0.

    After a softmax, whose outputs sum to 1, it is a tenth of 1 + crossentropy.
    """
    return jnp.mean(outputs - targets * jnp.log(outputs + EPSILON), axis=-1)


_LOSSES: dict[LossName, Callable[[Array, Array], Array]] = {
    "mean_squared_error": _mean_squared_error,
    "mean_absolute_error": _mean_absolute_error,
    "hinge": _hinge,
    "kl_divergence": _kl_divergence,
    "poisson": _poisson,
}
