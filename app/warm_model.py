"""A model whose predictions need no compilation any more: parameters on the device, every batch size compiled."""

import timeit
from collections.abc import Sequence
from functools import partial

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


class WarmModel:
    """Answers batches of up to `max_batch` images, each image the same as alone."""

    def __init__(self, model: str, safetensors: bytes, max_batch: int) -> None:
        """Raises CheckpointError for bytes that are not a network's, or that give no finite probabilities."""
        self.id = model
        self.spec, parameters = from_bytes(safetensors)
        self.parameters = jax.tree.map(jnp.asarray, parameters)
        self._confidence = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), confidence_of(safetensors))
        jitted = jax.jit(partial(_answer, spec=self.spec))
        self._compiled = {size: self._compile(jitted, size) for size in _sizes(max_batch)}
        self._seconds = {size: self._time(size) for size in self._compiled}

    def answer(self, images: Sequence[NDArray[np.uint8]]) -> list[list[float]]:
        """images: at most `max_batch`, each [28, 28] uint8, ink high.

        Returns for each 11 numbers: the digits' probabilities, and how much it looks like one; from 0 on it is.
        """
        size = self._size(len(images))
        batch = np.zeros((size, 28, 28), np.uint8)
        batch[: len(images)] = images
        answers = np.asarray(self._compiled[size](self.parameters, self._confidence, batch))  # [size, 11]
        return answers[: len(images)].tolist()

    def seconds(self, images: int) -> float:
        """How long so many images took when the model was warmed."""
        return self._seconds[self._size(images)]

    def _size(self, images: int) -> int:
        return next(size for size in self._compiled if size >= images)

    def _compile(self, jitted: jax.stages.Wrapped, size: int) -> jax.stages.Compiled:
        images = jax.ShapeDtypeStruct((size, 28, 28), np.uint8)
        return jitted.lower(self.parameters, self._confidence, images).compile()

    def _time(self, size: int) -> float:
        """The least of a few, since whatever else the machine did makes one take long."""
        blank = [np.zeros((28, 28), np.uint8)] * size
        if not np.isfinite(self.answer(blank)[0]).all():  # the first call also settles in
            raise CheckpointError(f"model {self.id} answers with NaN")
        return min(timeit.repeat(lambda: self.answer(blank), number=1, repeat=TIMINGS))


def _sizes(max_batch: int) -> list[int]:
    """The batch sizes up to the first that takes max_batch images."""
    return [size for index, size in enumerate(BATCH_SIZES) if index == 0 or BATCH_SIZES[index - 1] < max_batch]


def _answer(
    parameters: net.NetworkParameters, confidence: Confidence | None, images: jax.Array, *, spec: TrainSpec
) -> jax.Array:
    """In one array, since each that leaves the device costs as much as a small network: [B, 11] float32."""
    probabilities, digit_scores = answer(parameters, confidence, images, spec=spec)
    return jnp.concatenate([probabilities, digit_scores[:, None]], axis=1)
