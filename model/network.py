"""Sequential: a network's parameters, its logits and its outputs.

Shapes: B images in a batch, C = 10 classes.
"""

import jax
import jax.numpy as jnp
from jax import Array

from model.layers import ACTIVATIONS, STATISTICS, Batch, Parameters, layer_functions
from model.spec import TrainSpec, loss_name
from model.spec_layers import (
    Activation,
    ActivationLayer,
    BatchNormalization,
    Dense,
    KernelLayer,
    Layer,
    final_activation,
    layer_shapes,
)

NetworkParameters = list[Parameters]

_DOWN_TO_MINUS_ONE: tuple[Activation, ...] = ("linear", "tanh", "leaky_relu", "elu")


def init(key: Array, network: tuple[Layer, ...]) -> NetworkParameters:
    """Initial parameters, one dict of float32 arrays a layer (empty for a layer without any); consumes the key."""
    keys = jax.random.split(key, len(network))
    return [
        layer_functions(shape.layer).init(layer_key, shape.layer, shape.input_shape)
        for layer_key, shape in zip(keys, layer_shapes(network), strict=True)
    ]


def apply(parameters: NetworkParameters, images: Array, *, network: tuple[Layer, ...]) -> Array:
    """The trained network's logits: its outputs before the last layer's activation.

    images: [B, 28, 28] uint8, ink high. Returns [B, C] float32.
    """
    return layer_outputs(parameters, scale(images), network=network)[-1]


def layer_outputs(parameters: NetworkParameters, images: Array, *, network: tuple[Layer, ...]) -> list[Array]:
    """What each layer of the trained network makes of images; the last one's are its logits.

    images: [B, 28, 28] float32 in 0..1, ink high. Returns one array a layer, [B, H, W, C] or [B, M], float32.
    """
    x = images[..., None]  # [B, 28, 28, 1]
    made = []
    for layer, layer_parameters in zip(_up_to_logits(network), parameters, strict=True):
        x = layer_functions(layer).apply(layer_parameters, x, layer)
        made.append(x)
    return made


def apply_training(
    parameters: NetworkParameters, images: Array, batch: Batch, *, network: tuple[Layer, ...], dtype: str = "float32"
) -> tuple[Array, NetworkParameters]:
    """The logits of the network in training, and its running statistics after this batch.

    images: [B, 28, 28] float32 in 0..1, ink high; the batch's key is consumed. Returns [B, C] float32 and one dict a
    layer. Matrix products and what is between them are computed in dtype, batch normalization and all from the last
    kernel on in float32.
    """
    statistics: NetworkParameters = []
    x = images[..., None]  # [B, 28, 28, 1]
    keys = jax.random.split(batch.key, len(network))
    last_kernel = max(index for index, layer in enumerate(network) if isinstance(layer, KernelLayer))
    for index, (layer, layer_parameters) in enumerate(zip(_up_to_logits(network), parameters, strict=True)):
        functions = layer_functions(layer)
        layer_dtype = jnp.float32 if isinstance(layer, BatchNormalization) or index >= last_kernel else dtype
        x, cast = jax.tree.map(lambda array, to=layer_dtype: array.astype(to), (x, layer_parameters))
        if functions.apply_training is None:
            x = functions.apply(cast, x, layer)
            statistics.append({})
        else:
            x, changed = functions.apply_training(cast, x, batch._replace(key=keys[index]), layer)
            statistics.append(changed)
    return x, statistics


def scale(images: Array) -> Array:
    """uint8 to float32 in 0..1."""
    return images.astype(jnp.float32) / 255.0


def partition(parameters: NetworkParameters) -> tuple[NetworkParameters, NetworkParameters]:
    """What gradients change, and the running statistics: one dict a layer in each."""
    trained = [{name: value for name, value in layer.items() if name not in STATISTICS} for layer in parameters]
    statistics = [{name: value for name, value in layer.items() if name in STATISTICS} for layer in parameters]
    return trained, statistics


def combine(trained: NetworkParameters, statistics: NetworkParameters) -> NetworkParameters:
    """Joins what `partition` took apart."""
    return [{**one, **other} for one, other in zip(trained, statistics, strict=True)]


def penalty(parameters: NetworkParameters, *, network: tuple[Layer, ...]) -> Array:
    """What the layers' regularisers add to the loss: Σ l1 · |w| + l2 · w² over their kernels."""
    total = jnp.float32(0.0)
    for layer, layer_parameters in zip(network, parameters, strict=True):
        if isinstance(layer, KernelLayer) and (regularizer := layer.kernel_regularizer):
            kernel = layer_parameters["kernel"]
            total += regularizer.l1 * jnp.sum(jnp.abs(kernel)) + regularizer.l2 * jnp.sum(jnp.square(kernel))
    return total


def constrain(parameters: NetworkParameters, *, network: tuple[Layer, ...]) -> NetworkParameters:
    """The parameters as the layers' constraints allow them."""
    return [
        {**layer_parameters, "kernel": _bounded(layer_parameters["kernel"], layer.kernel_constraint.max_value)}
        if isinstance(layer, KernelLayer) and layer.kernel_constraint
        else layer_parameters
        for layer, layer_parameters in zip(network, parameters, strict=True)
    ]


def _bounded(kernel: Array, max_value: float) -> Array:
    """Scales each unit's weights, all but the last axis, to at most that L2 norm.

    Keras' `MaxNorm` with axis 0 for a dense kernel, (0, 1, 2) for a convolution's.
    """
    norms = jnp.sqrt(jnp.sum(jnp.square(kernel), axis=tuple(range(kernel.ndim - 1)), keepdims=True))
    return kernel * (jnp.minimum(norms, max_value) / (1e-7 + norms))


def outputs(logits: Array, *, network: tuple[Layer, ...]) -> Array:
    """What Keras' `Sequential` would give: the last layer's activation of its logits; [B, C] float32."""
    return ACTIVATIONS[final_activation(network)](logits)


def probabilities(logits: Array, *, spec: TrainSpec) -> Array:
    """[B, C] float32 in 0..1, each row summing to 1.

    Softmax outputs are probabilities already, and crossentropy reads linear ones as logits. Other outputs were trained
    towards 0 and 1 (hinge: -1 and 1, where they reach -1): each counts by its share of their sum, those below 0 next to
    nothing.
    """
    values = outputs(logits, network=spec.network)
    if final_activation(spec.network) == "softmax":
        return values
    if loss_name(spec.loss) == "categorical_crossentropy":
        return jax.nn.softmax(values)
    if loss_name(spec.loss) == "hinge" and final_activation(spec.network) in _DOWN_TO_MINUS_ONE:
        values = (values + 1.0) / 2.0
    # A trace of softmax keeps the order where every output is below 0.
    shares = jnp.maximum(values, 0.0) + 1e-7 * jax.nn.softmax(values)
    return shares / jnp.sum(shares, axis=-1, keepdims=True)


def parameter_count(network: tuple[Layer, ...]) -> int:
    return sum(shape.parameters for shape in layer_shapes(network))


def _up_to_logits(network: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers, the last without its activation."""
    last = network[-1]
    assert isinstance(last, Dense | ActivationLayer), "Network refuses any other last layer"
    return (*network[:-1], last.model_copy(update={"activation": "linear"}))
