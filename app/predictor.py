"""The models that answer predictions: the default is kept warm, others are warmed when they are asked for."""

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.aliases import DEFAULT
from app.batching import Batcher, Limits
from app.database import UNAVAILABLE
from app.drawings import Drawing, prepared
from app.errors import NoModelError, UnusableModelError
from app.registry import Registry
from app.settings import Settings
from app.warm import Row, WarmModel
from model.checkpoint import CheckpointError

WARM_MODELS = 8
PREPARED_TOGETHER = 8  # drawings; more would make the first of them wait for the last

_log = logging.getLogger(__name__)

Ink = NDArray[np.uint8]


class Answers(NamedTuple):
    """What a model says of N images."""

    model: str
    probabilities: NDArray[np.float32]  # [N, 10]


class _Served(NamedTuple):
    model: WarmModel
    queue: Batcher[Ink, Row]

    async def answer(self, images: Sequence[Ink], deadline: float) -> Answers:
        rows = await self.queue.submit(images, deadline)
        return Answers(self.model.id, np.stack([row.probabilities for row in rows]))


class Predictor:
    """Keeps the default model warm, and a few others that were asked for by name."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry, self._settings = registry, settings
        self._default: _Served | None = None
        self._warm_models: OrderedDict[str, _Served] = OrderedDict()
        self._unusable: str | None = None
        self._lock = threading.Lock()
        cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(2 * cores, "predict")
        preparing = Limits(PREPARED_TOGETHER, 0.0, settings.max_waiting_images, at_once=cores)
        self._drawings: Batcher[Drawing, Ink] = Batcher(prepared, preparing, self._pool)

    @property
    def default(self) -> WarmModel:
        """Raises NoModelError until the first model is warm."""
        return self._served_default().model

    def model(self, name: str | None) -> WarmModel:
        """The default model, or one by id or alias, which is warmed first; in a thread.

        Raises ModelNotFoundError, UnusableModelError and NoModelError.
        """
        return self._served(name).model

    def deadline(self) -> float:
        """When a request that arrives now has waited for too long, by time.monotonic()."""
        return time.monotonic() + self._settings.predict_seconds

    async def prepare(self, drawings: Sequence[Drawing], deadline: float) -> list[Ink]:
        """The drawings in the network's form. Raises BusyError, DeadlineError, and what is wrong with a drawing."""
        return await self._drawings.submit(drawings, deadline)

    async def answer(self, images: Sequence[Ink], model: str | None = None, deadline: float | None = None) -> Answers:
        """images: each [28, 28] uint8 in the network's form; model: an id or alias, the default if left out.

        Raises BusyError, DeadlineError, ModelNotFoundError, UnusableModelError and NoModelError.
        """
        if model in (None, DEFAULT):
            served = self._served_default()
        else:
            served = await asyncio.to_thread(self._served, model)
        return await served.answer(images, deadline or self.deadline())

    def refresh(self) -> None:
        """Makes the registry's default the one that answers; the old one answers until the new one is warm."""
        with self._lock:
            model = self._registry.default()
            if model in (None, self._unusable) or (self._default and self._default.model.id == model):
                return
            try:
                self._default = self._warm(model)
            except UnusableModelError:
                self._unusable = model  # it is tried, and logged, once
                raise
            self._unusable = None
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

    def _served_default(self) -> _Served:
        if self._default is None:
            raise NoModelError
        return self._default

    def _served(self, name: str | None) -> _Served:
        if name is None or name == DEFAULT:
            return self._served_default()
        model = self._registry.model(name).id
        if self._default and self._default.model.id == model:
            return self._default
        with self._lock:
            return self._warm(model)

    def _warm(self, model: str) -> _Served:
        if model not in self._warm_models:
            self._warm_models[model] = self._load(model)
        self._warm_models.move_to_end(model)
        while len(self._warm_models) > WARM_MODELS:
            self._warm_models.popitem(last=False)
        return self._warm_models[model]

    def _load(self, model: str) -> _Served:
        settings = self._settings
        try:
            warm = WarmModel(*self._registry.parameters(model), settings.max_batch)
        except CheckpointError as error:
            raise UnusableModelError(model, str(error)) from error
        limits = Limits(settings.max_batch, settings.batch_wait_seconds, settings.max_waiting_images)
        return _Served(warm, Batcher(warm.answer, limits, self._pool, seconds=warm.seconds))
