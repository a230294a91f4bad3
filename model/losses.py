"""Losses and metrics of one example each; means are the caller's, who knows which examples count.

Shapes: B images in a batch, C = 10 classes.
"""

import jax
import jax.numpy as jnp
from jax import Array

from model.network import outputs
from model.spec import CLASSES, Layer, Loss, final_activation


class DivergedError(ValueError):
    """The training left the finite numbers; the message says where, and what to try."""


def loss_per_example(logits: Array, labels: Array, *, loss: Loss, network: tuple[Layer, ...]) -> Array:
    """logits: [B, C] float32; labels: [B] integers in 0..9. Returns [B] float32, each ≥ 0."""
    if loss == "categorical_crossentropy":
        return _categorical_crossentropy(logits, labels)
    return _mean_squared_error(outputs(logits, network=network), labels)


def correct_per_example(logits: Array, labels: Array, *, network: tuple[Layer, ...]) -> Array:
    """[B] bool: whether the largest output is the label's. Softmax keeps the order, so logits will do for it."""
    scores = logits if final_activation(network) == "softmax" else outputs(logits, network=network)
    return jnp.argmax(scores, axis=-1) == labels


def _categorical_crossentropy(logits: Array, labels: Array) -> Array:
    """-log softmax(logits)[label], through log-sum-exp so that no large logit overflows."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None].astype(jnp.int32), axis=-1)[:, 0]


def _mean_squared_error(outputs: Array, labels: Array) -> Array:
    """Mean over the classes of (output - one-hot label)²."""
    return jnp.mean(jnp.square(outputs - jax.nn.one_hot(labels, CLASSES)), axis=-1)
