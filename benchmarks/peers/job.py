"""What every peer trains: the network, its arithmetic, its first weights, and how much of an epoch one slice is.

Read by each peer's own interpreter, so it imports nothing but NumPy.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EPOCH_IMAGES = 60_000
LEARNING_RATE = 0.001
CHANCE_LOSS = math.log(10)  # of a network that knows nothing about ten digits

Layer = dict[str, Any]  # one entry of `TrainSpec.network` as JSON; the names are Keras' own
Shape = tuple[int, ...]

NETWORKS: dict[str, list[Layer]] = {
    "tutorial": [
        {"type": "flatten"},
        {"type": "dense", "units": 500, "activation": "sigmoid"},
        {"type": "dense", "units": 500, "activation": "sigmoid"},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ],
    "lenet": [
        {"type": "conv2d", "filters": 32, "kernel_size": 5, "activation": "relu"},
        {"type": "max_pooling2d", "pool_size": 2},
        {"type": "conv2d", "filters": 64, "kernel_size": 5, "activation": "relu"},
        {"type": "max_pooling2d", "pool_size": 2},
        {"type": "flatten"},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ],
}


@dataclass(frozen=True)
class Job:
    """A network and a batch size; one slice is `steps` mini-batches, and `slices` of them are trained in a row."""

    network_name: str
    batch_size: int
    steps: int
    slices: int

    @property
    def network(self) -> list[Layer]:
        return NETWORKS[self.network_name]

    @property
    def images(self) -> int:
        """How many images one slice trains on."""
        return min(self.steps * self.batch_size, EPOCH_IMAGES)

    @property
    def epoch_steps(self) -> int:
        return math.ceil(EPOCH_IMAGES / self.batch_size)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class LayerShape(NamedTuple):
    layer: Layer
    input_shape: Shape
    output_shape: Shape


def layer_shapes(network: Sequence[Layer]) -> Iterator[LayerShape]:
    """Walks the network from a 28 × 28 × 1 image; shapes are channels last."""
    shape: Shape = (28, 28, 1)
    for layer in network:
        input_shape, shape = shape, _output_shape(layer, shape)
        yield LayerShape(layer, input_shape, shape)


def _output_shape(layer: Layer, shape: Shape) -> Shape:
    match layer["type"]:
        case "flatten":
            return (math.prod(shape),)
        case "dense":
            return (layer["units"],)
        case "conv2d":
            return (*(size - layer["kernel_size"] + 1 for size in shape[:2]), layer["filters"])
        case "max_pooling2d":
            return (*(size // layer["pool_size"] for size in shape[:2]), shape[2])
    raise ValueError(f"layer type {layer['type']!r}: no benchmark has one")


def step_flops(network: Sequence[Layer]) -> int:
    """Floating-point operations of one image in one training step, matrix products and convolutions alone.

    A layer with k multiply-adds costs 2k forward, 2k for its weights' gradient and 2k for its input's, which the
    first layer does not need: 6 Σk − 2 k₁. The tutorial network: 6 · 647,000 − 2 · 392,000 = 3.098 MFLOP.
    """
    multiply_adds = [count for count in map(_multiply_adds, layer_shapes(network)) if count]
    return 6 * sum(multiply_adds) - 2 * multiply_adds[0]


def _multiply_adds(shape: LayerShape) -> int:
    match shape.layer["type"]:
        case "dense":
            return math.prod(shape.input_shape) * math.prod(shape.output_shape)
        case "conv2d":
            return math.prod(shape.output_shape) * int(shape.layer["kernel_size"]) ** 2 * shape.input_shape[2]
    return 0


class Weights(NamedTuple):
    """Of one layer: kernel [N, M] or [K, K, C, F] float32, bias [M] or [F] float32."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


class Data(NamedTuple):
    """A slice's images [N, 28, 28] uint8 and labels [N] uint8, and the network's first weights."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    weights: list[Weights]


def save_images(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    np.savez(folder / "mnist.npz", images=images, labels=labels)


def save_weights(folder: Path, network_name: str, weights: Sequence[Weights]) -> None:
    np.savez(folder / f"{network_name}.npz", *(array for layer in weights for array in layer))


def load_data(folder: Path, job: Job) -> Data:
    mnist, stored = np.load(folder / "mnist.npz"), np.load(folder / f"{job.network_name}.npz")
    arrays = [stored[f"arr_{index}"] for index in range(len(stored.files))]
    weights = [Weights(kernel, bias) for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True)]
    return Data(mnist["images"][: job.images], mnist["labels"][: job.images], weights)
