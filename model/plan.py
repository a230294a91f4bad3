"""How a run will go, told before it starts: its steps, how they are cut into chunks, its time and memory."""

import math
from typing import NamedTuple

import jax

from model.network import parameter_count
from model.spec import TrainSpec
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


def plan_epoch(spec: TrainSpec, examples: int) -> Plan:
    """Chunks of about CHUNK_SECONDS: of one length if they can be, as each length is compiled; else out of few."""
    steps = math.ceil(examples / spec.batch_size)
    wanted = max(1.0, CHUNK_SECONDS / estimate_step_seconds(spec))
    if steps <= 1.5 * wanted:
        return Plan(steps, steps)
    near = [length for length in range(1, steps) if wanted / 1.5 <= length <= 1.5 * wanted]
    return Plan(steps, min(near, key=lambda length: (steps % length > 0, length not in _LENGTHS, -length)))


# Four lengths from each power of two to the next.
_LENGTHS = {(4 + quarter) << power >> 2 for power in range(26) for quarter in range(4)}


def estimate_step_seconds(spec: TrainSpec) -> float:
    """Arithmetic and memory traffic of one step at speeds a common device reaches; good to a factor of a few.

    Each multiply-add of an image costs 6 operations (2 forward, 4 backward), each parameter 32 bytes a step (gradient,
    Adam's moments), each number between layers 24 (written and read, forward and backward).
    """
    speed = _SPEEDS.get(jax.default_backend(), _SPEEDS["gpu"])
    shapes = list(layer_shapes(spec.network))
    flops = 6 * sum(shape.multiplications for shape in shapes) * spec.batch_size
    image_bytes = 24 * sum(math.prod(shape.output_shape) for shape in shapes)
    if spec.augmentation:
        image_bytes += _AUGMENTATION_BYTES
    moved_bytes = 32 * parameter_count(spec.network) + image_bytes * spec.batch_size
    return flops / speed.flops + moved_bytes / speed.bytes + speed.step_seconds


class _Speed(NamedTuple):
    """Sustained operations and bytes a second, and the fixed cost of a step in seconds."""

    flops: float
    bytes: float
    step_seconds: float


_SPEEDS = {"cpu": _Speed(80e9, 20e9, 30e-6), "gpu": _Speed(5e12, 1e12, 60e-6)}
_AUGMENTATION_BYTES = 400_000  # of memory traffic would take as long as augmenting an image does: 20 µs on a CPU


def estimate_seconds(spec: TrainSpec, examples: int) -> float:
    """How long the whole training is expected to take, in seconds, without start-up and compilation."""
    return total_steps(spec, examples) * estimate_step_seconds(spec)


def estimate_memory_bytes(spec: TrainSpec, examples: int) -> int:
    """The data; the parameters with gradient, two moments, average, best and last good copy; each layer's numbers.

    Those are its output with its gradient, in float32. The exact figure is XLA's: `model.memory` checks it.
    """
    shapes = list(layer_shapes(spec.network))
    outputs = sum(math.prod(shape.output_shape) for shape in shapes) * spec.batch_size
    copies = 5 + (spec.ema_momentum is not None) + (spec.early_stopping is not None)
    data_bytes = examples * (math.prod(shapes[0].input_shape) + 1)
    return data_bytes + 4 * (copies * parameter_count(spec.network) + 2 * outputs)
