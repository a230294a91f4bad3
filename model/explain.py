"""Why a network names a digit: which pixels spoke for it, and what each layer makes of the image.

Shapes: B images, S steps, M units, H × W pixels, C channels.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from model import network as net
from model.spec import TrainSpec
from model.spec_layers import Layer

STEPS = 32
MAX_CHANNELS = 64
MAX_UNITS = 1_024
COMPILED_NETWORKS = 16  # as many as a service keeps warm, and as many again

Floats = NDArray[np.float32]


class LayerOutput(NamedTuple):
    """What a layer makes of one image.

    type: the layer's kind; size: how many channels or units it has; values: the first of them, float32,
    [C, H, W] with C ≤ 64 or [M] with M ≤ 1024.
    """

    type: str
    size: int
    values: Floats


def saliency(
    parameters: net.NetworkParameters, images: NDArray[np.uint8], digits: NDArray[np.integer], *, spec: TrainSpec
) -> Floats:
    """How much each pixel adds to the logit of a digit, against a black image: integrated gradients.

    images: [B, 28, 28] uint8, ink high; digits: [B]. Returns [B, 28, 28] float32; each image's numbers add up to
    logit(image) - logit(black), but for the error of a midpoint rule of 32 steps (Sundararajan et al. 2017, section 5).
    A pixel without ink adds nothing.
    """
    attribute = _jitted_attributions(spec.network)
    # One image at a time: its steps are a batch, so one shape is compiled and memory is that of 32 images.
    return np.stack([attribute(parameters, *asked) for asked in zip(images, digits.astype(np.int32), strict=True)])


def activations(parameters: net.NetworkParameters, image: NDArray[np.uint8], *, spec: TrainSpec) -> list[LayerOutput]:
    """Each layer's output for one image, first layer first; the last one's after its activation.

    image: [28, 28] uint8, ink high.
    """
    outputs = _jitted_outputs(spec.network)(parameters, image)
    return [_layer_output(layer, np.asarray(x)) for layer, x in zip(spec.network, outputs, strict=True)]


def _layer_output(layer: Layer, output: Floats) -> LayerOutput:
    """output: [H, W, C] or [M]."""
    values = output[:MAX_UNITS] if output.ndim == 1 else np.moveaxis(output[..., :MAX_CHANNELS], -1, 0)
    return LayerOutput(layer.type, output.shape[-1], values)


@lru_cache(COMPILED_NETWORKS)
def _jitted_attributions(network: tuple[Layer, ...]) -> jax.stages.Wrapped:
    return jax.jit(partial(_attributions, network=network))


@lru_cache(COMPILED_NETWORKS)
def _jitted_outputs(network: tuple[Layer, ...]) -> jax.stages.Wrapped:
    return jax.jit(partial(_outputs, network=network))


def _attributions(
    parameters: net.NetworkParameters, image: Array, digit: Array, *, network: tuple[Layer, ...]
) -> Array:
    """image: [28, 28] uint8; digit: []. Returns [28, 28]."""
    pixels = net.scale(image)
    shares = (jnp.arange(STEPS, dtype=jnp.float32) + 0.5) / STEPS  # of the way from black to the image

    def logit(steps: Array) -> Array:
        """The sum over all steps, whose gradient is each step's own: no step's pixels change another's logit."""
        return jnp.take(net.layer_outputs(parameters, steps, network=network)[-1], digit, axis=1).sum()

    steps = shares[:, None, None] * pixels[None]  # [S, 28, 28]
    return pixels * jax.grad(logit)(steps).mean(axis=0)


def _outputs(parameters: net.NetworkParameters, image: Array, *, network: tuple[Layer, ...]) -> list[Array]:
    *hidden, logits = net.layer_outputs(parameters, net.scale(image)[None], network=network)
    return [x[0] for x in (*hidden, net.outputs(logits, network=network))]
