"""A model whose predictions need no compilation any more: parameters on the device, every batch size compiled."""

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from model import network as net
from model.checkpoint import CheckpointError, from_bytes
from model.spec import TrainSpec

BATCH_SIZES = (1, 4, 16, 64, 256, 1024)  # a batch is padded to the next of them, so that few shapes are compiled


class Row(NamedTuple):
    """A model's answer for one image."""

    probabilities: NDArray[np.float32]  # [10]


class WarmModel:
    """Answers batches of up to `max_batch` images, each image the same as alone."""

    def __init__(self, model: str, safetensors: bytes, max_batch: int) -> None:
        """Raises CheckpointError for bytes that are not a network's, or that give no finite probabilities."""
        self.id = model
        self.spec, parameters = from_bytes(safetensors)
        self.parameters = jax.tree.map(jnp.asarray, parameters)
        answer = jax.jit(partial(_answer, spec=self.spec))
        self._compiled = {size: self._compile(answer, size) for size in _sizes(max_batch)}
        self._seconds = {size: self._time(size) for size in self._compiled}

    def answer(self, images: Sequence[NDArray[np.uint8]]) -> list[Row]:
        """images: at most `max_batch`, each [28, 28] uint8, ink high."""
        size = self._size(len(images))
        batch = np.zeros((size, 28, 28), np.uint8)
        batch[: len(images)] = images
        answers = np.asarray(self._compiled[size](self.parameters, batch))  # [size, 10]
        return [Row(answer) for answer in answers[: len(images)]]

    def seconds(self, images: int) -> float:
        """How long so many images took when the model was warmed."""
        return self._seconds[self._size(images)]

    def _size(self, images: int) -> int:
        return next(size for size in self._compiled if size >= images)

    def _compile(self, answer: jax.stages.Wrapped, size: int) -> jax.stages.Compiled:
        return answer.lower(self.parameters, jax.ShapeDtypeStruct((size, 28, 28), np.uint8)).compile()

    def _time(self, size: int) -> float:
        blank = [np.zeros((28, 28), np.uint8)] * size
        if not np.isfinite(self.answer(blank)[0].probabilities).all():  # the first call also settles in
            raise CheckpointError(f"model {self.id} answers with NaN")
        start = time.perf_counter()
        self.answer(blank)
        return time.perf_counter() - start


def _sizes(max_batch: int) -> list[int]:
    """The batch sizes up to the first that takes max_batch images."""
    return [size for index, size in enumerate(BATCH_SIZES) if index == 0 or BATCH_SIZES[index - 1] < max_batch]


def _answer(parameters: net.NetworkParameters, images: jax.Array, *, spec: TrainSpec) -> jax.Array:
    return net.probabilities(net.apply(parameters, images, network=spec.network), spec=spec)
