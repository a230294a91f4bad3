"""The models that answer predictions: the default is kept warm, others are warmed when they are asked for."""

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.aliases import DEFAULT, Counts
from app.batching import Batcher, Limits
from app.candidates import Trial
from app.database import UNAVAILABLE
from app.drawings import Drawing, prepared, segmented
from app.errors import BusyError, DeadlineError, NoModelError, UnusableModelError
from app.metrics import Metrics
from app.registry import Registry
from app.settings import Settings
from app.warm_model import WarmModel
from model.checkpoint import CheckpointError
from model.segmentation import Segment

WARM_BYTES = 512_000_000  # of models that were asked for by name
PREPARED_TOGETHER = 8  # drawings; more would make the first of them wait for the last

_log = logging.getLogger(__name__)

Ink = NDArray[np.uint8]


class Answers(NamedTuple):
    """What a model says of N images."""

    warm: WarmModel
    probabilities: list[list[float]]  # [N, 10]
    digit_scores: list[float]  # [N]; 0 and more looks like a digit

    @property
    def model(self) -> str:
        """Its id."""
        return self.warm.id


class _Served(NamedTuple):
    model: WarmModel
    queue: Batcher[Ink, list[float]]

    async def answer(self, images: Sequence[Ink], deadline: float) -> Answers:
        answers = await self.queue.submit(images, deadline)  # [N, 11]
        return Answers(self.model, [answer[:-1] for answer in answers], [answer[-1] for answer in answers])


class Predictor:
    """Keeps the default model warm, and a few others that were asked for by name."""

    def __init__(self, registry: Registry, settings: Settings, metrics: Metrics) -> None:
        self._registry, self._settings, self._metrics = registry, settings, metrics
        self._default: _Served | None = None
        self._warm_models: OrderedDict[str, _Served] = OrderedDict()
        self._unusable: set[str] = set()  # each is tried, and logged, once
        self._trial: tuple[Trial, _Served] | None = None
        self._comparisons: set[asyncio.Task[None]] = set()
        self._warming = threading.RLock()  # one model at a time; a refresh warms some itself
        self._counting = threading.Lock()  # nothing is counted twice
        cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(2 * cores, "predict")
        self._warmer = ThreadPoolExecutor(1, "warm")  # whoever waits for a model holds no other's thread
        preparing = Limits(PREPARED_TOGETHER, 0.0, settings.max_waiting_images, at_once=cores)
        self._drawings: Batcher[Drawing, Ink] = Batcher(prepared, preparing, self._pool)
        self._numbers: Batcher[Drawing, list[Segment]] = Batcher(segmented, preparing._replace(batch=1), self._pool)
        metrics.queue_depth.set_function(self._waiting_images)

    @property
    def default(self) -> WarmModel:
        """Raises NoModelError until the first model is warm."""
        return self._served_default().model

    async def model(self, name: str | None) -> WarmModel:
        """The default model, or one by id or alias, which is warmed first.

        Raises ModelNotFoundError, UnusableModelError and NoModelError.
        """
        return (await self._served(name)).model

    def deadline(self) -> float:
        """When a request that arrives now has waited for too long, by time.monotonic()."""
        return time.monotonic() + self._settings.predict_seconds

    async def prepare(self, drawings: Sequence[Drawing], deadline: float) -> list[Ink]:
        """The drawings in the network's form. Raises BusyError, DeadlineError, and what is wrong with a drawing."""
        return await self._drawings.submit(drawings, deadline)

    async def segment(self, drawing: Drawing, deadline: float) -> list[Segment]:
        """The digits of a number, from left to right. Raises as `prepare`."""
        (segments,) = await self._numbers.submit([drawing], deadline)
        return segments

    async def answer(self, images: Sequence[Ink], model: str | None = None, deadline: float | None = None) -> Answers:
        """images: each [28, 28] uint8 in the network's form; model: an id or alias, the default if left out.

        Raises BusyError, DeadlineError, ModelNotFoundError, UnusableModelError and NoModelError.
        """
        deadline = deadline or self.deadline()
        if model is None and (trial := self._trial):  # looked at once: a refresh, in a thread, may end it
            answers = await self._answer_in_trial(*trial, images, deadline)
        else:
            answers = await (await self._served(model, deadline)).answer(images, deadline)
        self._metrics.answered(map(max, answers.probabilities))
        return answers

    def candidate_counts(self) -> Counts:
        """What the candidate has done in every process; in a thread."""
        self.save_counts()
        return self._registry.candidate_counts()

    async def _answer_in_trial(
        self, trial: Trial, candidate: _Served, images: Sequence[Ink], deadline: float
    ) -> Answers:
        """Whoever answers, the other is asked behind the caller's back, to be compared."""
        default = self._served_default()
        if trial.answers_next():
            answers = await candidate.answer(images, deadline)
            trial.count_answered(len(images))
            self._compare(trial, default, images, answers)
            return answers
        answers = await default.answer(images, deadline)
        if trial.candidate.shadow:
            self._compare(trial, candidate, images, answers)
        return answers

    def _compare(self, trial: Trial, other: _Served, images: Sequence[Ink], answers: Answers) -> None:
        async def compare() -> None:
            with suppress(BusyError, DeadlineError):  # people come first
                others = await other.answer(images, self.deadline())
                self._metrics.compared(trial.compare(answers.probabilities, others.probabilities), len(images))

        task = asyncio.create_task(compare())
        self._comparisons.add(task)  # asyncio itself forgets what nobody holds
        task.add_done_callback(self._comparisons.discard)

    def refresh(self) -> None:
        """Makes the registry's default the one that answers; the old one answers until the new one is warm."""
        with self._warming:
            self._refresh_default()
            self._refresh_candidate()

    def _refresh_default(self) -> None:
        model = self._registry.default()
        if model and not (self._default and self._default.model.id == model) and (served := self._try(model)):
            self._default = served
            self._metrics.model(model)
            _log.info("model %s answers predictions now", model)

    def _refresh_candidate(self) -> None:
        self.save_counts()
        current, candidate = self._trial and self._trial[0].candidate, self._registry.candidate()
        if candidate == current:
            return
        served = self._try(candidate.model) if candidate else None
        self._trial = (Trial(candidate), served) if candidate and served else None

    def save_counts(self) -> None:
        """Tells the others what the candidate has done in this process; in a thread."""
        if (current := self._trial) is None:
            return
        trial, _ = current
        with self._counting:
            counts = trial.counts
            if counts != trial.saved:
                self._registry.count(trial.candidate, counts.since(trial.saved))
                trial.saved = counts

    def _try(self, model: str) -> _Served | None:
        """None, and a line in the log, for a model that cannot answer."""
        if model in self._unusable:
            return None
        try:
            return self._warm(model)
        except UnusableModelError as error:
            self._unusable.add(model)
            _log.error("%s", error)
            return None

    async def follow_default(self, poll_seconds: float) -> None:
        """Refreshes at every news of another default, and every poll_seconds in any case, until cancelled.

        A model that cannot answer leaves the old one in place.
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
            _log.exception("the default model could not be looked up")

    def _served_default(self) -> _Served:
        if self._default is None:
            raise NoModelError
        return self._default

    async def _served(self, name: str | None, deadline: float | None = None) -> _Served:
        """What is warm answers at once, whatever is being warmed meanwhile.

        Raises DeadlineError where another is not warm by then; once that has begun, it is for who asks next.
        """
        if name is None or name == DEFAULT:
            return self._served_default()
        model = await asyncio.to_thread(self._registry.id_of, name)
        if warm := self._recall(model):
            return warm
        asked = time.monotonic()
        warming = asyncio.get_running_loop().run_in_executor(self._warmer, self._warm, model)
        try:
            return await asyncio.wait_for(warming, None if deadline is None else deadline - asked)
        except TimeoutError:
            raise DeadlineError(time.monotonic() - asked) from None

    def _recall(self, model: str) -> _Served | None:
        for served in self._in_service():
            if served.model.id == model:
                return served
        with suppress(KeyError):
            self._warm_models.move_to_end(model)
        return self._warm_models.get(model)

    def _warm(self, model: str) -> _Served:
        with self._warming:
            if warm := self._recall(model):
                return warm
            served = self._warm_models[model] = self._load(model)
            while len(self._warm_models) > 1 and self._warm_bytes() > WARM_BYTES:
                self._warm_models.popitem(last=False)
            return served

    def _warm_bytes(self) -> int:
        return sum(served.model.size_bytes for served in [*self._warm_models.values()])  # others may move them

    def _load(self, model: str) -> _Served:
        settings = self._settings
        try:
            warm = WarmModel(*self._registry.parameters(model), settings.max_batch)
        except CheckpointError as error:
            raise UnusableModelError(model, str(error)) from error
        limits = Limits(settings.max_batch, settings.batch_wait_seconds, settings.max_waiting_images)
        on_batch = self._metrics.ran_batch
        return _Served(warm, Batcher(warm.answer, limits, self._pool, seconds=warm.seconds, on_batch=on_batch))

    def _waiting_images(self) -> int:
        answering = {*self._in_service(), *self._warm_models.values()}
        return len(self._drawings) + len(self._numbers) + sum(len(served.queue) for served in answering)

    def _in_service(self) -> list[_Served]:
        """The default, and the candidate on trial."""
        trial = self._trial
        return [served for served in (self._default, trial and trial[1]) if served]
