"""Sequential: a network's parameters, its logits and its outputs.

Shapes: B images in a batch, C = 10 classes.
"""

import jax
import jax.numpy as jnp
from jax import Array

from model.layers import ACTIVATIONS, Parameters, layer_functions
from model.spec import ActivationLayer, Dense, Layer, TrainSpec, final_activation, layer_shapes, loss_name

NetworkParameters = list[Parameters]


def init(key: Array, network: tuple[Layer, ...]) -> NetworkParameters:
    """Initial parameters, one dict of float32 arrays a layer (empty for a layer without any); consumes the key."""
    keys = jax.random.split(key, len(network))
    return [
        layer_functions(shape.layer).init(layer_key, shape.layer, shape.input_shape)
        for layer_key, shape in zip(keys, layer_shapes(network), strict=True)
    ]


def apply(
    parameters: NetworkParameters, images: Array, key: Array | None = None, *, network: tuple[Layer, ...]
) -> Array:
    """The network's logits: its outputs before the last layer's activation.

    images: [B, 28, 28] uint8, ink high. Returns [B, C] float32. The key, given only while training, is consumed
    by dropout.
    """
    layers = (*network[:-1], _without_activation(network[-1]))
    keys = [None] * len(layers) if key is None else list(jax.random.split(key, len(layers)))
    x = images[..., None].astype(jnp.float32) / 255.0  # [B, 28, 28, 1]
    for layer, layer_parameters, layer_key in zip(layers, parameters, keys, strict=True):
        x = layer_functions(layer).apply(layer_parameters, x, layer_key, layer)
    return x


def outputs(logits: Array, *, network: tuple[Layer, ...]) -> Array:
    """What Keras' `Sequential` would give: the last layer's activation of its logits; [B, C] float32."""
    return ACTIVATIONS[final_activation(network)](logits)


def probabilities(logits: Array, *, spec: TrainSpec) -> Array:
    """[B, C] float32 in 0..1, each row summing to 1.

    Softmax outputs are probabilities already, and crossentropy reads linear ones as logits. Other outputs were trained
    towards 0 and 1 (hinge: -1 and 1): each counts by its share of their sum, those below 0 next to nothing.
    """
    values = outputs(logits, network=spec.network)
    if final_activation(spec.network) == "softmax":
        return values
    if loss_name(spec.loss) == "categorical_crossentropy":
        return jax.nn.softmax(values)
    if loss_name(spec.loss) == "hinge":
        values = (values + 1.0) / 2.0
    # A trace of softmax keeps the order where every output is below 0.
    shares = jnp.maximum(values, 0.0) + 1e-7 * jax.nn.softmax(values)
    return shares / jnp.sum(shares, axis=-1, keepdims=True)


def parameter_count(network: tuple[Layer, ...]) -> int:
    return sum(shape.parameters for shape in layer_shapes(network))


def _without_activation(last: Layer) -> Layer:
    assert isinstance(last, Dense | ActivationLayer), "Network refuses any other last layer"
    return last.model_copy(update={"activation": "linear"})
