"""The host's side of a training: data, rates, callbacks.

Shapes: L steps in a chunk.
"""

import math
import operator
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from model import network as net
from model.callbacks import reduced, stops, watch
from model.data import Dataset, split
from model.devices import all_devices, hardware, replicated
from model.evaluate import mean_scores
from model.losses import DivergedError
from model.memory import check_fits
from model.optimizers import rates_at
from model.plan import Plan, plan_epoch
from model.reports import EpochReport, FitResult, StepReport
from model.resume import Journal, SavedTraining
from model.scores import MeanScores
from model.spec import TrainSpec, keeps_best
from model.step import (
    ChunkInputs,
    EpochInputs,
    Totals,
    TrainState,
    initial_state,
    jitted_chunk,
    jitted_epoch_inputs,
    step_config,
    weights,
)

ADVICE = "try a smaller learning rate"
GOOD_SECONDS = 1.0  # between copies of the parameters, kept for the case that a loss is not finite


class Training:
    """A run's data and state on the devices, its one compiled function, and its journal."""

    def __init__(self, spec: TrainSpec, dataset: Dataset, saved: SavedTraining | None = None) -> None:
        examples, held_out = split(dataset, spec.validation_split)
        self.spec, self.mesh = spec, all_devices()
        self.images, self.labels = self.on_devices((examples.images, examples.labels))
        self.held_out = held_out and jax.device_put((held_out.images, held_out.labels), jax.local_devices()[0])
        self._plan_here = plan_epoch(spec, len(examples), backend=jax.default_backend())
        begun = Journal(chunk_steps=self._plan_here.chunk_steps)
        self.journal = saved.journal.model_copy(deep=True) if saved else begun
        if hardware() not in self.journal.hardware:
            self.journal.hardware.append(hardware())
        init_key, train_key = jax.random.split(jax.random.key(spec.seed))
        self.key_bits = self.on_devices(jax.random.key_data(train_key))
        self.state: TrainState = self.on_devices(saved.state if saved else initial_state(init_key, spec))
        self.best = saved.best if saved else None
        self.last_good = _LastGood()
        self.pace = _Pace(self.plan, spec.epochs)
        self._programs: dict[int, jax.stages.Compiled] = {}  # by the steps of a chunk

    @property
    def plan(self) -> Plan:
        """Of the epoch at hand, as the journal has it cut."""
        return self._plan_here._replace(chunk_steps=self.journal.chunk_steps)

    def on_devices(self, tree: Any) -> Any:
        """A whole copy of every array on each device."""
        # From the host: what lies on one device cannot be put on those of other processes.
        return jax.device_put(jax.device_get(tree), replicated(self.mesh))

    @property
    def finished(self) -> bool:
        early = self.spec.early_stopping
        return self.journal.epoch > self.spec.epochs or bool(early and stops(self.journal.stopping, early))

    def run_epoch(self) -> Iterator[StepReport]:
        """What is left of the journal's epoch; a report after each chunk."""
        self.pace.start_lap()
        epoch = self.epoch_inputs()
        for chunk in self.plan.chunks:
            if chunk.start < self.journal.step:
                continue
            if self._steps_before() + chunk.start > 0:
                self.last_good.remember(self.state)
            arguments = (self.state, self.images, self.labels, epoch, self.chunk_inputs(chunk))
            self.state, *measured = self.compiled(arguments, len(chunk))(*arguments)
            totals, good_steps = jax.tree.map(np.ndarray.tolist, jax.device_get(measured))
            yield self._record(chunk, totals, good_steps)

    def epoch_inputs(self) -> EpochInputs:
        """The journal's epoch's. They are made on the devices: nothing waits for them here."""
        make = jitted_epoch_inputs(len(self.labels), self.spec.batch_size, self.mesh)
        inputs: EpochInputs = make(self.key_bits, jax.device_put(np.int32(self.journal.epoch), replicated(self.mesh)))
        return inputs

    def chunk_inputs(self, chunk: range) -> ChunkInputs:
        """Of these steps of the journal's epoch, on the devices."""
        in_epoch = np.asarray(chunk, np.int32)
        steps = self._steps_before() + in_epoch
        momenta = np.where(steps == 0, 0.0, self.spec.ema_momentum or 0.0).astype(np.float32)
        inputs = ChunkInputs(in_epoch, self._rates(steps).astype(np.float32), momenta)
        return jax.device_put(inputs, replicated(self.mesh))

    def _rates(self, steps: NDArray[np.int32]) -> NDArray[np.float64]:
        """The learning rates of these steps of the run."""
        if (rate := self.journal.plateau_rate) is not None:
            return np.full(steps.shape, rate, np.float64)
        epochs = self.spec.epochs
        return rates_at(self.spec.optimizer, steps, total_steps=self.plan.steps * epochs, epochs=epochs)

    def _steps_before(self) -> int:
        """Steps of the run before the journal's epoch."""
        return (self.journal.epoch - 1) * self.plan.steps

    def compiled(self, arguments: tuple[Any, ...], steps: int) -> jax.stages.Compiled:
        """The function of a chunk of so many steps. Raises NotEnoughMemoryError where it cannot run."""
        if steps not in self._programs:
            self._programs[steps] = jitted_chunk(step_config(self.spec), self.mesh).lower(*arguments).compile()
            if len(self._programs) == 1:  # an epoch's last chunk, which is shorter, needs no more
                check_fits(self._programs[steps], self.spec)
        return self._programs[steps]

    def _record(self, chunk: range, totals: Totals, good_steps: int) -> StepReport:
        journal = self.journal
        if good_steps > 0:
            self.last_good.confirm()
        if good_steps < len(chunk):
            where = f"in epoch {journal.epoch}, at step {self._steps_before() + chunk.start + good_steps + 1}"
            raise self._diverged(f"the loss became {totals.loss} {where}; {ADVICE}")
        journal.step = chunk.stop
        journal.totals = jax.tree.map(operator.add, journal.totals, totals) if journal.totals else totals
        journal.seconds += (seconds := self.pace.lap())
        return self.pace.report(journal.epoch, self._steps_before() + chunk.stop, totals, seconds)

    def end_epoch(self) -> EpochReport:
        """Scores the held-out images, and lets the callbacks decide."""
        journal, spec = self.journal, self.spec
        scores = self._validate(*self.held_out) if self.held_out else None
        rate = float(self._rates(np.array([self._steps_before() + self.plan.steps - 1]))[0])
        report = _epoch_report(journal, scores, rate, journal.seconds + self.pace.lap())
        journal.history.append(report)
        if stopping := spec.early_stopping:
            journal.stopping = watch(journal.stopping, report, stopping)
            if keeps_best(spec) and journal.stopping.best_epoch == report.epoch:
                self.best = self.weights()
        if plateau := spec.reduce_lr_on_plateau:
            journal.plateau, journal.plateau_rate = reduced(journal.plateau, report, plateau, rate)
        journal.epoch, journal.step, journal.totals, journal.seconds = journal.epoch + 1, 0, None, 0.0
        journal.chunk_steps = self._plan_here.chunk_steps  # whichever machine began the last epoch
        return report

    def _validate(self, images: Array, labels: Array) -> MeanScores:
        # Each device has all of them, and one is enough to score them.
        here = jax.tree.map(lambda array: array.addressable_data(0), weights(self.state))
        try:
            return mean_scores(here, images, labels, self.spec)
        except DivergedError as error:
            where = f"after epoch {self.journal.epoch}, at step {self._steps_before() + self.plan.steps}"
            raise self._diverged(f"{where}, {error}") from None

    def _diverged(self, message: str) -> DivergedError:
        has_best = self.best is not None and _finite(self.best)
        return DivergedError(message, self.best if has_best else self.last_good.weights)

    def weights(self) -> net.NetworkParameters:
        """What would be published now, as NumPy arrays."""
        return _copy(weights(self.state))

    def saved(self) -> SavedTraining:
        return SavedTraining(self.journal, self.state, self.best)

    def result(self) -> FitResult:
        """The last epoch's weights, or the best one's, with their scores."""
        history = self.journal.history
        if not _finite(weights(self.state)):
            raise self._diverged(f"a parameter is not finite after the last step; {ADVICE}")
        if self.best is None:
            return FitResult(self.weights(), history[-1].validation, self.last_good.weights)
        best_epoch = self.journal.stopping.best_epoch
        assert best_epoch is not None, "the best weights are those of an epoch"
        return FitResult(self.best, history[best_epoch - 1].validation, self.last_good.weights)


@jax.jit
def _finite(tree: Any) -> Array:
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _copy(tree: Any) -> Any:
    """Not a view, which would keep the next step from taking the state's buffers over."""
    return jax.tree.map(np.array, jax.device_get(tree))


class _LastGood:
    """The newest weights that were finite and gave finite losses, for a training that leaves the finite numbers."""

    def __init__(self) -> None:
        self.weights: net.NetworkParameters | None = None
        self._candidate: net.NetworkParameters | None = None
        self._copied_at = -math.inf

    def remember(self, state: TrainState) -> None:
        if time.monotonic() - self._copied_at >= GOOD_SECONDS and _finite(now := weights(state)):
            self._candidate, self._copied_at = _copy(now), time.monotonic()

    def confirm(self) -> None:
        """After a step whose loss was finite: finite weights alone may give outputs that are not."""
        self.weights = self._candidate


class _Pace:
    """Measures, and tells how far the training is."""

    def __init__(self, plan: Plan, epochs: int) -> None:
        self.epochs, self.steps = epochs, plan.steps * epochs
        self.lap_started = time.perf_counter()
        self.measured_from: tuple[float, int] | None = None  # after the first chunk, whose time is compilation's

    def start_lap(self) -> None:
        self.lap_started = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap ended."""
        started, self.lap_started = self.lap_started, time.perf_counter()
        return self.lap_started - started

    def report(self, epoch: int, step: int, totals: Totals, seconds: float) -> StepReport:
        speed = None if self.measured_from is None else totals.examples / seconds
        return StepReport(
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=self.steps,
            loss=totals.loss / totals.examples,
            accuracy=totals.correct / totals.examples,
            images_per_second=speed,
            seconds_left=self._seconds_left(step),
        )

    def _seconds_left(self, step: int) -> float | None:
        if self.measured_from is None:
            self.measured_from = (time.perf_counter(), step)
            return None
        since, first = self.measured_from
        return (time.perf_counter() - since) / (step - first) * (self.steps - step)


def _epoch_report(journal: Journal, scores: MeanScores | None, rate: float, seconds: float) -> EpochReport:
    totals = journal.totals
    assert totals is not None, "an epoch has at least one chunk"
    per_class = totals.class_correct and [
        correct / examples if examples else None
        for correct, examples in zip(totals.class_correct, totals.class_examples, strict=True)
    ]
    return EpochReport(
        epoch=journal.epoch,
        loss=totals.loss / totals.examples,
        accuracy=totals.correct / totals.examples,
        top_k_accuracy=None if totals.top_k is None else totals.top_k / totals.examples,
        per_class_accuracy=per_class,
        validation_loss=scores and scores.loss,
        validation_accuracy=scores and scores.accuracy,
        validation_top_k_accuracy=scores and scores.top_k,
        validation_per_class_accuracy=scores and scores.per_class,
        learning_rate=rate,
        seconds=seconds,
    )
