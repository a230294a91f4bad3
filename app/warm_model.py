"""A model whose predictions need no compilation any more: parameters on the device, every batch size compiled."""

import timeit
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from model import network as net
from model.checkpoint import CheckpointError, confidence_of, from_bytes
from model.inference import Confidence, answer
from model.spec import TrainSpec

TIMINGS = 3
BATCH_SIZES = (1, 4, 8, 16, 32, 64, 256, 1024)  # a batch is padded to the next of them, so that few shapes are compiled
NETWORKS = 64  # whose compiled code is kept for models to come
CODE_BYTES = 8_000_000  # about what a network's takes


class WarmModel:
    """Answers batches of up to `max_batch` images, each image the same as alone."""

    def __init__(self, model: str, safetensors: bytes, max_batch: int) -> None:
        """Raises CheckpointError for bytes that are not a network's, or that give no finite probabilities."""
        self.id = model
        self.spec, parameters = from_bytes(safetensors)
        self.parameters = jax.tree.map(jnp.asarray, parameters)
        self._confidence = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), confidence_of(safetensors))
        arrays, structure = jax.tree.flatten((self.parameters, self._confidence))
        self.size_bytes = CODE_BYTES + sum(array.nbytes for array in arrays)  # others may share the code
        shapes = tuple((array.shape, array.dtype) for array in arrays)
        answering = TrainSpec(network=self.spec.network, loss=self.spec.loss)  # all that an answer depends on
        self._programs = _programs(answering, structure, shapes, max_batch)
        if not np.isfinite(self.answer([np.full((28, 28), 255, np.uint8)])).all():  # a blank has a score of its own
            raise CheckpointError(f"model {self.id} answers with NaN")

    def answer(self, images: Sequence[NDArray[np.uint8]]) -> list[list[float]]:
        """images: at most `max_batch`, each [28, 28] uint8, ink high.

        Returns for each 11 numbers: the digits' probabilities, and how much it looks like one; from 0 on it is.
        """
        size = self._size(len(images))
        batch = np.zeros((size, 28, 28), np.uint8)
        batch[: len(images)] = images
        answers = np.asarray(self._programs[size].run(self.parameters, self._confidence, batch))  # [size, 11]
        return answers[: len(images)].tolist()

    def seconds(self, images: int) -> float:
        """How long so many images took when the network was compiled."""
        return self._programs[self._size(images)].seconds

    def _size(self, images: int) -> int:
        return next(size for size in self._programs if size >= images)


class _Program(NamedTuple):
    run: jax.stages.Compiled
    seconds: float


@lru_cache(NETWORKS)
def _programs(
    spec: TrainSpec, structure: Any, shapes: tuple[tuple[Any, Any], ...], max_batch: int
) -> dict[int, _Program]:
    """Those of every batch size, for all models of a network: what tells these apart is handed to them.

    structure, shapes: of a model's parameters and confidence, as jax.tree has them.
    """
    jitted = jax.jit(partial(_answer, spec=spec))
    like_a_model = jax.tree.unflatten(structure, [jnp.asarray(np.ones(*shape)) for shape in shapes])
    return {size: _program(jitted, like_a_model, size) for size in _sizes(max_batch)}


def _program(jitted: jax.stages.Wrapped, like_a_model: Any, size: int) -> _Program:
    """Its time is the least of a few, since whatever else the machine did makes one take long."""
    blank = np.zeros((size, 28, 28), np.uint8)
    run = jitted.lower(*like_a_model, blank).compile()
    _, *others = timeit.repeat(lambda: np.asarray(run(*like_a_model, blank)).tolist(), number=1, repeat=1 + TIMINGS)
    return _Program(run, min(others))  # the first also settles in


def _sizes(max_batch: int) -> list[int]:
    """The batch sizes up to the first that takes max_batch images."""
    return [size for index, size in enumerate(BATCH_SIZES) if index == 0 or BATCH_SIZES[index - 1] < max_batch]


def _answer(
    parameters: net.NetworkParameters, confidence: Confidence | None, images: jax.Array, *, spec: TrainSpec
) -> jax.Array:
    """In one array, since each that leaves the device costs as much as a small network: [B, 11] float32."""
    probabilities, digit_scores = answer(parameters, confidence, images, spec=spec)
    return jnp.concatenate([probabilities, digit_scores[:, None]], axis=1)
