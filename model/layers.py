"""One pair of pure functions, init and apply, for each kind of layer.

Shapes: B images in a batch, N inputs, M units.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from model.spec import Activation, ActivationLayer, Dense, Dropout, Flatten, Layer, Shape

Parameters = dict[str, Array]

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "softmax": jax.nn.softmax,
}


class LayerFunctions(NamedTuple):
    """init(key, spec, input_shape) -> parameters; apply(parameters, x, key, spec) -> y.

    The key is consumed. apply's key is None outside training: then nothing is random.
    """

    init: Callable[..., Parameters]
    apply: Callable[..., Array]


def layer_functions(layer: Layer) -> LayerFunctions:
    return _FUNCTIONS[type(layer)]


def _no_parameters(key: Array, layer: Layer, input_shape: Shape) -> Parameters:
    return {}


def _init_dense(key: Array, layer: Dense, input_shape: Shape) -> Parameters:
    """kernel: [N, M] float32, uniform in ±sqrt(6 / (N + M)) (Glorot & Bengio 2010, eq. 16); bias: [M], zeros."""
    shape = (math.prod(input_shape), layer.units)
    limit = math.sqrt(6.0 / sum(shape))
    return {
        "kernel": jax.random.uniform(key, shape, jnp.float32, -limit, limit),
        "bias": jnp.zeros(layer.units, jnp.float32),
    }


def _apply_dense(parameters: Parameters, x: Array, key: Array | None, layer: Dense) -> Array:
    product = jnp.dot(x, parameters["kernel"], precision=lax.Precision.HIGHEST)  # [B, N] -> [B, M]
    return ACTIVATIONS[layer.activation](product + parameters["bias"][None, :])


def _apply_flatten(parameters: Parameters, x: Array, key: Array | None, layer: Flatten) -> Array:
    return x.reshape(x.shape[0], -1)


def _apply_activation(parameters: Parameters, x: Array, key: Array | None, layer: ActivationLayer) -> Array:
    return ACTIVATIONS[layer.activation](x)


def _apply_dropout(parameters: Parameters, x: Array, key: Array | None, layer: Dropout) -> Array:
    """Inverted dropout: what is kept is divided by its share (Srivastava et al. 2014, section 10)."""
    if key is None:
        return x
    keep = 1.0 - layer.rate
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0.0)


_FUNCTIONS: dict[type, LayerFunctions] = {
    Flatten: LayerFunctions(_no_parameters, _apply_flatten),
    Dense: LayerFunctions(_init_dense, _apply_dense),
    ActivationLayer: LayerFunctions(_no_parameters, _apply_activation),
    Dropout: LayerFunctions(_no_parameters, _apply_dropout),
}
