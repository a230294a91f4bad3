"""How a run will go, told before it starts: its steps, how they are cut into chunks, its time and memory."""

import math
from typing import NamedTuple

import jax

from model.network import parameter_count
from model.spec import TrainSpec
from model.spec_layers import layer_shapes

CHUNK_SECONDS = 0.25


class Plan(NamedTuple):
    """How an epoch is cut: `steps` mini-batches, run as `chunks` scans of `chunk_steps` each.

    chunks * chunk_steps may exceed steps by a few: those steps have no examples and change nothing, so that a
    run compiles a single shape.
    """

    steps: int
    chunks: int
    chunk_steps: int

    @property
    def rows(self) -> int:
        return self.chunks * self.chunk_steps

    def cut(self, chunk_steps: int) -> "Plan":
        """The same epoch in chunks of another length."""
        return Plan(self.steps, math.ceil(self.steps / chunk_steps), chunk_steps)


def total_steps(spec: TrainSpec, examples: int) -> int:
    """Mini-batches in a run over so many training images."""
    return math.ceil(examples / spec.batch_size) * spec.epochs


def plan_epoch(spec: TrainSpec, examples: int) -> Plan:
    """Chunks of about CHUNK_SECONDS, of a length out of few, so that few shapes are ever compiled."""
    steps = math.ceil(examples / spec.batch_size)
    wanted = max(1.0, CHUNK_SECONDS / estimate_step_seconds(spec))
    whole = Plan(steps, 1, steps)
    if steps <= 1.5 * wanted:
        return whole
    near = [length for length in _LENGTHS if wanted / 1.5 <= length <= max(1.5 * wanted, 1)]
    return whole.cut(min(near, key=lambda length: (-steps % length, -length)))


# Four lengths from each power of two to the next: wide apart, yet one of them leaves few steps empty.
_LENGTHS = sorted({(4 + quarter) << power >> 2 for power in range(26) for quarter in range(4)})


def estimate_step_seconds(spec: TrainSpec) -> float:
    """Arithmetic and memory traffic of one step at speeds a common device reaches; good to a factor of a few.

    Each multiply-add of an image costs 6 operations (2 forward, 4 backward), each parameter 32 bytes a step (gradient,
    Adam's moments).
    """
    speed = _SPEEDS.get(jax.default_backend(), _SPEEDS["gpu"])
    multiplications = sum(shape.multiplications for shape in layer_shapes(spec.network))
    flops, moved_bytes = 6 * multiplications * spec.batch_size, 32 * parameter_count(spec.network)
    return flops / speed.flops + moved_bytes / speed.bytes + speed.step_seconds


class _Speed(NamedTuple):
    """Sustained operations and bytes a second, and the fixed cost of a step in seconds."""

    flops: float
    bytes: float
    step_seconds: float


_SPEEDS = {"cpu": _Speed(40e9, 15e9, 30e-6), "gpu": _Speed(5e12, 1e12, 60e-6)}


def estimate_seconds(spec: TrainSpec, examples: int) -> float:
    """Of the whole training, without start-up and compilation."""
    return total_steps(spec, examples) * estimate_step_seconds(spec)


def estimate_memory_bytes(spec: TrainSpec, examples: int) -> int:
    """The data, the parameters with gradient and two moments, and each layer's output with its gradient, in float32."""
    shapes = list(layer_shapes(spec.network))
    outputs = sum(math.prod(shape.output_shape) for shape in shapes) * spec.batch_size
    data_bytes = examples * (math.prod(shapes[0].input_shape) + 1)
    return data_bytes + 4 * (4 * parameter_count(spec.network) + 2 * outputs)
