"""How a run will go, told before it starts: its steps, how they are cut into chunks, its time and memory."""

import math
from typing import NamedTuple

from model.convolution import window_numbers
from model.evaluate import largest_layer, scoring_batch_size
from model.network import parameter_count
from model.spec import TrainSpec, keeps_best
from model.spec_layers import layer_shapes

CHUNK_SECONDS = 0.25


class Plan(NamedTuple):
    """How an epoch is cut: `steps` mini-batches, run as scans of `chunk_steps` each, the last as long as is left."""

    steps: int
    chunk_steps: int

    @property
    def chunks(self) -> list[range]:
        """The steps of each chunk, from 0."""
        starts = range(0, self.steps, self.chunk_steps)
        return [range(start, min(start + self.chunk_steps, self.steps)) for start in starts]


def total_steps(spec: TrainSpec, examples: int) -> int:
    """Mini-batches in a run over so many training images."""
    return math.ceil(examples / spec.batch_size) * spec.epochs


def plan_epoch(spec: TrainSpec, examples: int, *, backend: str) -> Plan:
    """Chunks of about CHUNK_SECONDS: of one length where that can be."""
    steps = math.ceil(examples / spec.batch_size)
    wanted = max(1.0, CHUNK_SECONDS / estimate_step_seconds(spec, backend=backend))
    if steps <= 1.5 * wanted:
        return Plan(steps, steps)

    def cost(length: int) -> tuple[bool, bool, int]:
        """Prefers one that leaves no remainder, which would be compiled too, then a common one, then the longest."""
        return steps % length > 0, length not in _COMMON_LENGTHS, -length

    near = [length for length in range(1, steps) if wanted / 1.5 <= length <= 1.5 * wanted]
    return Plan(steps, min(near, key=cost))


# Four from each power of two to the next, so that other runs find them compiled.
_COMMON_LENGTHS = {quarters * 2**power // 4 for power in range(26) for quarters in range(4, 8)}


def estimate_step_seconds(spec: TrainSpec, *, backend: str) -> float:
    """Arithmetic and memory traffic of one step at speeds a common device reaches; good to a factor of a few.

    Each multiply-add of an image costs 6 operations, 2 forward and 4 backward. backend: as JAX names it; all but the
    CPU count as GPUs.
    """
    speed = _CPU if backend == "cpu" else _GPU
    shapes = list(layer_shapes(spec.network))
    flops = 6 * sum(shape.multiplications for shape in shapes)
    activations = sum(math.prod(shape.output_shape) for shape in shapes)
    image_seconds = flops / speed.flops + activations / speed.activations
    if spec.augmentation:
        image_seconds += 1 / speed.augmentations
    return parameter_count(spec.network) / speed.parameters + image_seconds * spec.batch_size + speed.step_seconds


class _Speed(NamedTuple):
    """What is done a second; step_seconds: what every step costs besides."""

    flops: float
    activations: float  # numbers that pass from layer to layer and back
    augmentations: float  # images
    parameters: float  # updated
    step_seconds: float


# Fitted to what two cores and an H100 take (benchmarks/NOTES.md).
_CPU = _Speed(flops=220e9, activations=250e6, augmentations=50e3, parameters=2e9, step_seconds=30e-6)
_GPU = _Speed(flops=25e12, activations=50e9, augmentations=20e6, parameters=40e9, step_seconds=30e-6)


def estimate_seconds(spec: TrainSpec, examples: int, *, backend: str) -> float:
    """How long the whole training is expected to take, in seconds, without start-up and compilation."""
    return total_steps(spec, examples) * estimate_step_seconds(spec, backend=backend)


def estimate_memory_bytes(spec: TrainSpec, examples: int) -> int:
    """The data, the weights that are kept, and the most that a step, a checkpoint or scoring needs: they take turns.

    examples: with those that are held out, which lie on the device too. A step has the parameters' gradient, and each
    layer's output with its gradient and the windows that a CPU gathers, in float32. The exact figure of a step is
    XLA's: `model.memory` checks it.
    """
    shapes = list(layer_shapes(spec.network))
    numbers = sum(2 * math.prod(shape.output_shape) + window_numbers(shape) for shape in shapes) * spec.batch_size
    data_bytes = examples * (math.prod(shapes[0].input_shape) + 1)
    weights_bytes = 4 * parameter_count(spec.network)
    kept_bytes = _saved_bytes(spec) + weights_bytes  # the last good copy
    step_bytes = weights_bytes + 4 * numbers
    return data_bytes + kept_bytes + max(step_bytes, checkpoint_copies_bytes(spec), scoring_bytes(spec))


def checkpoint_copies_bytes(spec: TrainSpec) -> int:
    """Of memory that a checkpoint takes while it is made: a file, and the same behind its checksum."""
    return 2 * _saved_bytes(spec)


def scoring_bytes(spec: TrainSpec) -> int:
    """What the largest layer makes of a batch, with what goes in and with a convolution's pieces."""
    return 4 * 3 * scoring_batch_size(spec.network) * largest_layer(spec.network)


def _saved_bytes(spec: TrainSpec) -> int:
    """The parameters with two moments, average and best copy."""
    copies = 3 + (spec.ema_momentum is not None) + keeps_best(spec)
    return 4 * copies * parameter_count(spec.network)
