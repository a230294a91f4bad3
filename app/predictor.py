"""Warmed models that answer predictions: parameters on the device, every batch size compiled beforehand."""

import asyncio
import logging
import threading
from collections import OrderedDict
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from app.database import UNAVAILABLE
from app.errors import NoModelError
from app.registry import DEFAULT, Registry
from model import network as net
from model.checkpoint import CheckpointError, from_bytes
from model.spec import TrainSpec

BATCH_SIZES = (1, 8, 64)  # a batch is padded to the next of them, so that three shapes are compiled
WARM_MODELS = 8

_log = logging.getLogger(__name__)


class WarmModel:
    """A model whose predictions need no compilation any more."""

    def __init__(self, model: str, safetensors: bytes) -> None:
        """Raises CheckpointError for bytes that are not a network's, or that give no finite probabilities."""
        spec, parameters = from_bytes(safetensors)
        self.id = model
        self._parameters = jax.tree.map(jnp.asarray, parameters)
        predict = jax.jit(partial(_probabilities, spec=spec))
        self._compiled = {size: self._compile(predict, size) for size in BATCH_SIZES}
        if not np.isfinite(self.probabilities(np.zeros((1, 28, 28), np.uint8))).all():
            raise CheckpointError(f"model {model} answers with NaN")

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """images: [N, 28, 28] uint8, ink high. Returns [N, 10] float32, each row summing to 1."""
        chunks = [images[start : start + BATCH_SIZES[-1]] for start in range(0, len(images), BATCH_SIZES[-1])]
        return np.concatenate([self._of_batch(chunk) for chunk in chunks])

    def _of_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = next(size for size in BATCH_SIZES if size >= len(images))
        padded = np.pad(images, ((0, size - len(images)), (0, 0), (0, 0)))
        return np.asarray(self._compiled[size](self._parameters, padded))[: len(images)]

    def _compile(self, predict: jax.stages.Wrapped, size: int) -> jax.stages.Compiled:
        return predict.lower(self._parameters, jax.ShapeDtypeStruct((size, 28, 28), np.uint8)).compile()


def _probabilities(parameters: net.NetworkParameters, images: jax.Array, *, spec: TrainSpec) -> jax.Array:
    return net.probabilities(net.apply(parameters, images, network=spec.network), spec=spec)


class Predictor:
    """Keeps the default model warm, and a few others that were asked for by name."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._default: WarmModel | None = None
        self._warm_models: OrderedDict[str, WarmModel] = OrderedDict()
        self._unloadable: str | None = None
        self._lock = threading.Lock()

    @property
    def default(self) -> WarmModel:
        """Raises NoModelError until the first model is warm."""
        if self._default is None:
            raise NoModelError
        return self._default

    def model(self, name: str | None) -> WarmModel:
        """The default model, or one by id or alias, which is warmed first. Raises ModelNotFoundError."""
        if name is None or name == DEFAULT:
            return self.default
        model = self._registry.model(name).id
        if self._default and self._default.id == model:
            return self._default
        with self._lock:
            return self._warm(model)

    def refresh(self) -> None:
        """Makes the registry's default the one that answers; the old one answers until the new one is warm."""
        with self._lock:
            model = self._registry.default()
            if model in (None, self._unloadable) or (self._default and self._default.id == model):
                return
            try:
                self._default = self._warm(model)
            except CheckpointError:
                self._unloadable = model  # it is tried, and logged, once
                raise
            self._unloadable = None
        _log.info("model %s answers predictions now", model)

    async def follow_default(self, poll_seconds: float) -> None:
        """Refreshes at every news of another default, and every poll_seconds in any case, until cancelled.

        A model that cannot be loaded leaves the old one in place.
        """
        with closing(self._registry.news()) as news:
            while True:
                await asyncio.to_thread(news.wait, poll_seconds)
                await self.try_refresh()

    async def try_refresh(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        except UNAVAILABLE as error:
            _log.warning("the default model is not known while the database does not answer: %s", error.args[0])
        except Exception:  # noqa: BLE001 - whatever is wrong with a new model, the old one goes on answering
            _log.exception("the default model cannot be loaded")

    def _warm(self, model: str) -> WarmModel:
        if model not in self._warm_models:
            self._warm_models[model] = WarmModel(*self._registry.parameters(model))
        self._warm_models.move_to_end(model)
        while len(self._warm_models) > WARM_MODELS:
            self._warm_models.popitem(last=False)
        return self._warm_models[model]
