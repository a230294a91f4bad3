"""Training: a run's state, the jitted scan over mini-batches, and fit(), a generator of reports.

Shapes: B images in a batch, L steps in a chunk, R rows (steps, padding included) in an epoch.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pydantic import BaseModel, ConfigDict, Field

from model import network as net
from model.data import Dataset, split
from model.evaluate import MeanScores, mean_scores
from model.losses import DivergedError, correct_per_example, loss_per_example
from model.optimizers import learning_rates, transformation
from model.plan import Plan, plan_epoch, total_steps
from model.spec import Layer, Loss, TrainSpec
from model.spec_optimizers import Optimizer


class StepReport(BaseModel):
    """How far the training is, and the means over the mini-batches since the last report."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(description="The epoch that is being trained, from 1", examples=[3])
    epochs: int = Field(description="Epochs in the run", examples=[20])
    step: int = Field(description="Finished steps of the whole run", examples=[1234])
    steps: int = Field(description="Steps in the run", examples=[12000])
    loss: float | None = Field(None, description="Mean loss since the last report", examples=[0.12])
    accuracy: float | None = Field(None, description="Share of right answers since the last report", examples=[0.96])
    images_per_second: float | None = Field(None, description="Training speed", examples=[21000.0])
    seconds_left: float | None = Field(None, description="Expected seconds to the end of training", examples=[55.0])


class EpochReport(BaseModel):
    """One row of a run's history."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(description="The finished epoch, from 1", examples=[3])
    loss: float = Field(description="Mean training loss over the epoch, dropout on", examples=[0.12])
    accuracy: float = Field(description="Share of right answers over the epoch", examples=[0.96])
    validation_loss: float | None = Field(None, description="Mean loss on the held-out images", examples=[0.11])
    validation_accuracy: float | None = Field(None, description="Share of right answers on them", examples=[0.97])
    seconds: float = Field(description="Seconds that the epoch took, validation included", examples=[4.9])


class FitResult(NamedTuple):
    """The last report of a training: its parameters, and their scores on the held-out images, if any were."""

    parameters: net.NetworkParameters
    validation: MeanScores | None


Report = StepReport | EpochReport | FitResult


class TrainState(NamedTuple):
    """What a step changes."""

    parameters: net.NetworkParameters
    optimizer_state: optax.OptState


class StepConfig(NamedTuple):
    """The static part of a step: whatever else changes compiles nothing."""

    network: tuple[Layer, ...]
    loss: Loss
    optimizer: Optimizer


class Totals(NamedTuple):
    """Sums over examples: on the device while a chunk runs, floats on the host."""

    loss: Any
    correct: Any
    examples: Any


def fit(spec: TrainSpec, dataset: Dataset) -> Iterator[Report]:
    """Trains the spec's network; yields a StepReport every chunk, an EpochReport every epoch, then a FitResult.

    dataset: the training images; the spec's validation split is held out of them. Closing the generator stops the
    training after the chunk in flight, a fraction of a second. The same spec on the same device gives the same bits.
    Raises DivergedError when the loss is no longer finite.
    """
    examples, validation = split(dataset, spec.validation_split)
    training = _Training(spec, examples)
    pace = _Pace(spec, training.plan)
    for epoch in range(1, spec.epochs + 1):
        pace.start_epoch(epoch)
        for step, totals in training.run_epoch(epoch):
            yield pace.step_report(step, totals)
        scores = mean_scores(training.state.parameters, validation, spec) if validation else None
        yield pace.epoch_report(scores)
    if not all(bool(jnp.isfinite(value).all()) for value in jax.tree.leaves(training.state.parameters)):
        raise DivergedError("a parameter is not finite after the last step; try a smaller learning rate")
    yield FitResult(training.state.parameters, scores)


class _Training:
    """A run's data and state on the device, and its one compiled function."""

    def __init__(self, spec: TrainSpec, dataset: Dataset) -> None:
        self.spec = spec
        self.images, self.labels = jnp.asarray(dataset.images), jnp.asarray(dataset.labels)
        self.plan = plan_epoch(spec, len(dataset.labels))
        self.rates = learning_rates(spec.optimizer, steps=total_steps(spec, len(dataset)), epochs=spec.epochs)
        init_key, self.train_key = jax.random.split(jax.random.key(spec.seed))
        self.state = initial_state(init_key, spec)
        self.compiled: Callable[..., tuple[TrainState, Totals]] | None = None

    def run_epoch(self, epoch: int) -> Iterator[tuple[int, Totals]]:
        """Yields the epoch's finished steps and the chunk's totals after each chunk."""
        order_key, dropout_key = jax.random.split(jax.random.fold_in(self.train_key, epoch))
        order = epoch_order(order_key, len(self.labels), rows=self.plan.rows, batch_size=self.spec.batch_size)
        for first in range(0, self.plan.rows, self.plan.chunk_steps):
            rates = self._chunk_rates(epoch, first)
            arguments = (self.state, self.images, self.labels, order, rates, dropout_key, jnp.int32(first))
            self.state, totals = self._compile(arguments)(*arguments)
            step = min(first + self.plan.chunk_steps, self.plan.steps)
            yield step, Totals(*(float(total) for total in jax.device_get(totals)))

    def _chunk_rates(self, epoch: int, first: int) -> Array:
        start = (epoch - 1) * self.plan.steps + first
        rates = self.rates[start : start + self.plan.chunk_steps]
        return jnp.asarray(np.pad(rates, (0, self.plan.chunk_steps - len(rates))))

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., tuple[TrainState, Totals]]:
        if self.compiled is None:
            lowered = train_chunk.lower(*arguments, config=step_config(self.spec))
            self.compiled = lowered.compile()
        return self.compiled


def initial_state(key: Array, spec: TrainSpec) -> TrainState:
    """Consumes the key."""
    parameters = net.init(key, spec.network)
    return TrainState(parameters, transformation(spec.optimizer).init(parameters))


def step_config(spec: TrainSpec) -> StepConfig:
    # None stands for any rate or schedule: they are data, and must not tell two configurations apart.
    without_rate = spec.optimizer.model_copy(update={"learning_rate": None})
    return StepConfig(spec.network, spec.loss, without_rate)


@partial(jax.jit, static_argnames=("rows", "batch_size", "examples"))
def epoch_order(key: Array, examples: int, *, rows: int, batch_size: int) -> Array:
    """[R, B] int32: every example's index once, in random order, then -1 where there is none. The key is consumed."""
    order = jax.random.permutation(key, examples)
    return jnp.pad(order, (0, rows * batch_size - examples), constant_values=-1).reshape(rows, batch_size)


@partial(jax.jit, static_argnames="config", donate_argnames="state")
def train_chunk(
    state: TrainState,
    images: Array,
    labels: Array,
    order: Array,
    rates: Array,
    dropout_key: Array,
    first: Array,
    *,
    config: StepConfig,
) -> tuple[TrainState, Totals]:
    """Runs the L steps that start at row `first` of an epoch's order.

    images: [N, 28, 28] uint8; labels: [N] uint8; order: [R, B] int32; rates: [L] float32 learning rates; the dropout
    key is folded with each row's number. The state is donated.
    """
    rows = first + jnp.arange(len(rates))  # [L]

    def step(state: TrainState, row_and_rate: tuple[Array, Array]) -> tuple[TrainState, Totals]:
        row, rate = row_and_rate
        indices = order[row]  # [B]
        key = jax.random.fold_in(dropout_key, row)
        return train_step(state, images[indices], labels[indices], indices >= 0, rate, key, config=config)

    state, totals = lax.scan(step, state, (rows, rates))
    return state, jax.tree.map(jnp.sum, totals)


def train_step(
    state: TrainState,
    images: Array,
    labels: Array,
    counts: Array,
    rate: Array,
    key: Array,
    *,
    config: StepConfig,
) -> tuple[TrainState, Totals]:
    """One mini-batch; counts: [B] bool, whether an example counts. A batch in which none does changes nothing."""
    gradient_of = jax.value_and_grad(_mean_loss, has_aux=True)
    (_, totals), gradient = gradient_of(state.parameters, images, labels, counts, key, config=config)
    updates, optimizer_state = transformation(config.optimizer).update(
        gradient, state.optimizer_state, state.parameters, learning_rate=rate
    )
    stepped = TrainState(optax.apply_updates(state.parameters, updates), optimizer_state)
    return jax.tree.map(partial(jnp.where, totals.examples > 0), stepped, state), totals


def _mean_loss(
    parameters: net.NetworkParameters,
    images: Array,
    labels: Array,
    counts: Array,
    key: Array,
    *,
    config: StepConfig,
) -> tuple[Array, Totals]:
    logits = net.apply(parameters, images, key, network=config.network)
    losses = loss_per_example(logits, labels, loss=config.loss, network=config.network)  # [B]
    correct = correct_per_example(logits, labels, network=config.network)  # [B]
    totals = Totals(jnp.sum(losses * counts), jnp.sum(correct * counts), jnp.sum(counts))
    return totals.loss / jnp.maximum(totals.examples, 1), totals


class _Pace:
    """Turns totals into reports: means, speed and the time left."""

    def __init__(self, spec: TrainSpec, plan: Plan) -> None:
        self.spec, self.plan = spec, plan
        self.steps = plan.steps * spec.epochs
        self.measured_from: tuple[float, int] | None = None  # after the first chunk, whose time is compilation's

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.epoch_totals = epoch, Totals(0.0, 0.0, 0.0)
        self.epoch_started = self.chunk_started = time.perf_counter()

    def step_report(self, step: int, totals: Totals) -> StepReport:
        now, done = time.perf_counter(), (self.epoch - 1) * self.plan.steps + step
        self.epoch_totals = Totals(*np.add(self.epoch_totals, totals))
        report = StepReport(
            epoch=self.epoch,
            epochs=self.spec.epochs,
            step=done,
            steps=self.steps,
            **self._means(totals, done),
            images_per_second=totals.examples / (now - self.chunk_started),
            seconds_left=self._seconds_left(now, done),
        )
        self.chunk_started = now
        return report

    def epoch_report(self, validation: MeanScores | None) -> EpochReport:
        return EpochReport(
            epoch=self.epoch,
            **self._means(self.epoch_totals, self.epoch * self.plan.steps),
            validation_loss=validation and validation.loss,
            validation_accuracy=validation and validation.accuracy,
            seconds=time.perf_counter() - self.epoch_started,
        )

    def _means(self, totals: Totals, done: int) -> dict[str, float]:
        if not math.isfinite(totals.loss):
            raise DivergedError(
                f"the loss became {totals.loss} in epoch {self.epoch}, by step {done}; try a smaller learning rate"
            )
        return {"loss": totals.loss / totals.examples, "accuracy": totals.correct / totals.examples}

    def _seconds_left(self, now: float, done: int) -> float | None:
        if self.measured_from is None:
            self.measured_from = (now, done)
            return None
        since, first = self.measured_from
        return (now - since) / (done - first) * (self.steps - done)
