"""One pair of pure functions, init and apply, for each kind of layer.

Shapes: B images in a batch, N inputs, M units, H × W pixels, C channels, F filters, K the side of a window.
"""

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from model.convolution import convolve, max_pool, windows
from model.products import matmul
from model.spec_layers import (
    Activation,
    ActivationLayer,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Initializer,
    Layer,
    MaxPooling2D,
    Shape,
)

Parameters = dict[str, Array]

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.2),  # Keras' slope
    "elu": jax.nn.elu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "hard_sigmoid": jax.nn.hard_sigmoid,
}

_INITIALIZERS: dict[Initializer, jax.nn.initializers.Initializer] = {
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "zeros": jax.nn.initializers.zeros,
}


STATISTICS = ("moving_mean", "moving_variance")  # parameters that a training step replaces; no gradient is theirs


class Batch(NamedTuple):
    """What a layer is told about a mini-batch in training.

    key: consumed; mask: [B] bool, false for an example that only fills the batch up.
    """

    key: Array
    mask: Array


class LayerFunctions(NamedTuple):
    """init(key, spec, input_shape) -> parameters, the key consumed; apply(parameters, x, spec) -> y.

    apply_training(parameters, x, batch, spec) -> (y, new statistics), for a layer that differs in training.
    """

    init: Callable[..., Parameters]
    apply: Callable[..., Array]
    apply_training: Callable[..., tuple[Array, Parameters]] | None = None


def layer_functions(layer: Layer) -> LayerFunctions:
    return _FUNCTIONS[type(layer)]


def _no_parameters(key: Array, layer: Layer, input_shape: Shape) -> Parameters:
    return {}


def _init_dense(key: Array, layer: Dense, input_shape: Shape) -> Parameters:
    """kernel: [N, M] float32; bias: [M], zeros."""
    shape = (math.prod(input_shape), layer.units)
    return {"kernel": _INITIALIZERS[layer.kernel_initializer](key, shape), "bias": jnp.zeros(layer.units, jnp.float32)}


def _apply_dense(parameters: Parameters, x: Array, layer: Dense) -> Array:
    return ACTIVATIONS[layer.activation](_add_bias(matmul(x, parameters["kernel"]), parameters["bias"]))


def _add_bias(y: Array, bias: Array) -> Array:
    """In float32, as its gradient adds up every image and place, of which bfloat16 counts 256 at most."""
    return (y.astype(jnp.float32) + _last_axis(bias, y)).astype(y.dtype)


def _init_conv2d(key: Array, layer: Conv2D, input_shape: Shape) -> Parameters:
    """kernel: [K, K, C, F] float32; bias: [F], zeros."""
    shape = (layer.kernel_size, layer.kernel_size, input_shape[-1], layer.filters)
    return {
        "kernel": _INITIALIZERS[layer.kernel_initializer](key, shape),
        "bias": jnp.zeros(layer.filters, jnp.float32),
    }


def _apply_conv2d(parameters: Parameters, x: Array, layer: Conv2D) -> Array:
    """[B, H, W, C] -> [B, H', W', F]."""
    y = convolve(x, parameters["kernel"], strides=layer.strides, padding=layer.padding)
    return ACTIVATIONS[layer.activation](_add_bias(y, parameters["bias"]))


def _apply_max_pooling2d(parameters: Parameters, x: Array, layer: MaxPooling2D) -> Array:
    return max_pool(x, *layer.window, layer.padding)


def _apply_average_pooling2d(parameters: Parameters, x: Array, layer: AveragePooling2D) -> Array:
    exact = x.astype(jnp.float32)  # in bfloat16, 256 + 1 is 256
    inside = jnp.ones((1, *x.shape[1:3], 1), jnp.float32)
    counts = reduce(operator.add, windows(inside, *layer.window, layer.padding))
    total = reduce(operator.add, windows(exact, *layer.window, layer.padding))
    return (total / counts).astype(x.dtype)


def _apply_global_average_pooling2d(parameters: Parameters, x: Array, layer: GlobalAveragePooling2D) -> Array:
    return x.mean(axis=(1, 2))  # [B, H, W, C] -> [B, C]


def _apply_flatten(parameters: Parameters, x: Array, layer: Flatten) -> Array:
    return x.reshape(x.shape[0], -1)


def _apply_activation(parameters: Parameters, x: Array, layer: ActivationLayer) -> Array:
    return ACTIVATIONS[layer.activation](x)


def _init_batch_normalization(key: Array, layer: BatchNormalization, input_shape: Shape) -> Parameters:
    """gamma, beta, moving_mean, moving_variance: [C] float32."""
    channels = input_shape[-1]
    return {
        "gamma": jnp.ones(channels, jnp.float32),
        "beta": jnp.zeros(channels, jnp.float32),
        "moving_mean": jnp.zeros(channels, jnp.float32),
        "moving_variance": jnp.ones(channels, jnp.float32),
    }


def _apply_batch_normalization(parameters: Parameters, x: Array, layer: BatchNormalization) -> Array:
    return _normalize(parameters, x, parameters["moving_mean"], parameters["moving_variance"], layer)


def _train_batch_normalization(
    parameters: Parameters, x: Array, batch: Batch, layer: BatchNormalization
) -> tuple[Array, Parameters]:
    """The variance is the batch's own, divided by its size: Keras', in the running one too."""
    mean = _masked_mean(x, batch.mask)  # [C]
    variance = _masked_mean(jnp.square(x - _last_axis(mean, x)), batch.mask)
    now = {"moving_mean": mean, "moving_variance": variance}
    running = {name: layer.momentum * parameters[name] + (1 - layer.momentum) * now[name] for name in STATISTICS}
    return _normalize(parameters, x, mean, variance, layer), lax.stop_gradient(running)


def _normalize(parameters: Parameters, x: Array, mean: Array, variance: Array, layer: BatchNormalization) -> Array:
    scale = parameters["gamma"] * lax.rsqrt(variance + layer.epsilon)  # [C]
    return x * _last_axis(scale, x) + _last_axis(parameters["beta"] - mean * scale, x)


def _masked_mean(x: Array, mask: Array) -> Array:
    """[B, ..., C] -> [C], over the examples that count."""
    weights = mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    places = math.prod(x.shape[1:-1])
    total = jnp.sum(x * weights, axis=tuple(range(x.ndim - 1)))
    return total / (jnp.sum(weights) * places)


def _last_axis(values: Array, x: Array) -> Array:
    """[C] -> [1, ..., 1, C], as many axes as x has."""
    return values.reshape(*[1] * (x.ndim - 1), -1)


def _apply_dropout(parameters: Parameters, x: Array, layer: Dropout) -> Array:
    return x


def _train_dropout(parameters: Parameters, x: Array, batch: Batch, layer: Dropout) -> tuple[Array, Parameters]:
    """Inverted dropout: what is kept is divided by its share (Srivastava et al. 2014, section 10)."""
    keep = 1.0 - layer.rate
    # Drawn flat: XLA compiles a draw of four axes ten times more slowly on a CPU.
    kept = jax.random.bernoulli(batch.key, keep, (len(x), math.prod(x.shape[1:]))).reshape(x.shape)
    return jnp.where(kept, x / keep, 0.0), {}


_FUNCTIONS: dict[type, LayerFunctions] = {
    Flatten: LayerFunctions(_no_parameters, _apply_flatten),
    Dense: LayerFunctions(_init_dense, _apply_dense),
    Conv2D: LayerFunctions(_init_conv2d, _apply_conv2d),
    MaxPooling2D: LayerFunctions(_no_parameters, _apply_max_pooling2d),
    AveragePooling2D: LayerFunctions(_no_parameters, _apply_average_pooling2d),
    GlobalAveragePooling2D: LayerFunctions(_no_parameters, _apply_global_average_pooling2d),
    ActivationLayer: LayerFunctions(_no_parameters, _apply_activation),
    BatchNormalization: LayerFunctions(
        _init_batch_normalization, _apply_batch_normalization, _train_batch_normalization
    ),
    Dropout: LayerFunctions(_no_parameters, _apply_dropout, _train_dropout),
}
