"""One mini-batch and a chunk of them: what is compiled.

Shapes: B images in a batch, L steps in a chunk, S steps in an epoch, N training images, C = 10 classes.
"""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from model import network as net
from model.augment import augment
from model.devices import batch_sharded, replicated
from model.layers import Batch
from model.losses import correct_per_example, label_ranks, loss_per_example
from model.optimizers import transformation
from model.plan import estimate_step_seconds
from model.spec import Loss, TrainSpec, top_k
from model.spec_augmentation import Augmentation
from model.spec_layers import CLASSES, Layer
from model.spec_optimizers import Optimizer

SHORT_STEP_SECONDS = 0.002
DRAWN_AT_ONCE = 2_048  # images, on a GPU: they bound the memory that their augmentation takes


class TrainState(NamedTuple):
    """What a step changes. average: of parameters and statistics, combined; None where none is kept."""

    parameters: net.NetworkParameters
    statistics: net.NetworkParameters
    average: net.NetworkParameters | None
    optimizer_state: optax.OptState


class StepConfig(NamedTuple):
    """The static part of a step: whatever else changes compiles nothing."""

    network: tuple[Layer, ...]
    loss: Loss
    optimizer: Optimizer
    augmentation: Augmentation | None
    class_weight: tuple[float, ...] | None
    top_k: int | None
    per_class: bool
    compute_dtype: str
    unroll: int


class Examples(NamedTuple):
    """A mini-batch. images: [B, 28, 28] float32 in 0..1; labels: [B] uint8.

    mask: [B] bool, true for the examples that count (at least one).
    """

    images: Array
    labels: Array
    mask: Array


class Totals(NamedTuple):
    """Sums over examples: arrays on the device, numbers and lists on the host; None where metrics do not ask."""

    loss: Any
    correct: Any
    examples: Any
    top_k: Any = None
    class_correct: Any = None  # [C]
    class_examples: Any = None  # [C]


class EpochInputs(NamedTuple):
    """What decides an epoch's steps, beside the state.

    order: [S, B] int32, B a multiple of the devices: every example's index once, and -1 fills a row up; key_bits:
    uint32, the data of the key that each step folds with its place in the epoch.
    """

    order: Any
    key_bits: Any


class ChunkInputs(NamedTuple):
    """What the L steps of a chunk are given, in order.

    steps: [L] int32, each one's place in the epoch; rates: [L] float32 learning rates; momenta: [L] float32, the share
    of the average that each step keeps.
    """

    steps: Any
    rates: Any
    momenta: Any


def _epoch_shardings(mesh: Mesh) -> EpochInputs:
    return EpochInputs(batch_sharded(mesh), replicated(mesh))


@cache
def jitted_epoch_inputs(examples: int, batch_size: int, mesh: Mesh) -> jax.stages.Wrapped:
    """epoch_inputs, jitted: the batches are divided among the devices."""
    return jax.jit(
        partial(epoch_inputs, examples=examples, batch_size=batch_size, devices=mesh.size),
        in_shardings=replicated(mesh),
        out_shardings=_epoch_shardings(mesh),
    )


def epoch_inputs(key_bits: Array, epoch: Array, *, examples: int, batch_size: int, devices: int) -> EpochInputs:
    """key_bits: uint32, the data of the training's key; epoch: [] int32, from 1."""
    order_key, step_key = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key_bits), epoch))
    order = jax.random.permutation(order_key, examples).astype(jnp.int32)
    batches = jnp.pad(order, (0, -examples % batch_size), constant_values=-1).reshape(-1, batch_size)
    padded = jnp.pad(batches, ((0, 0), (0, -batch_size % devices)), constant_values=-1)
    return EpochInputs(padded, jax.random.key_data(step_key))


@partial(jax.jit, static_argnames="spec")
def initial_state(key: Array, spec: TrainSpec) -> TrainState:
    """Consumes the key. One program: each of its operations by itself would be compiled, or loaded, too."""
    combined = net.init(key, spec.network)
    parameters, statistics = net.partition(combined)
    average = jax.tree.map(jnp.copy, combined) if spec.ema_momentum else None
    return TrainState(parameters, statistics, average, transformation(spec.optimizer).init(parameters))


def weights(state: TrainState) -> net.NetworkParameters:
    """What the training would publish now."""
    return net.combine(state.parameters, state.statistics) if state.average is None else state.average


def step_config(spec: TrainSpec) -> StepConfig:
    return StepConfig(
        network=spec.network,
        loss=spec.loss,
        # None stands for any rate or schedule: they are data, and must not tell two configurations apart.
        optimizer=spec.optimizer.model_copy(update={"learning_rate": None}),
        augmentation=spec.augmentation,
        class_weight=spec.class_weight,
        top_k=top_k(spec),
        per_class="per_class_accuracy" in spec.metrics,
        compute_dtype=spec.compute_dtype,
        unroll=2 if _is_short_on_cpu(spec) else 1,
    )


def _is_short_on_cpu(spec: TrainSpec) -> bool:
    """Two such steps in a row share what they spend on starting: 15 % of a step at batch 1 and 10."""
    return jax.default_backend() == "cpu" and estimate_step_seconds(spec, backend="cpu") < SHORT_STEP_SECONDS


@cache
def jitted_chunk(config: StepConfig, mesh: Mesh) -> jax.stages.Wrapped:
    """train_chunk, jitted: the batch is divided among the devices, all else is on each. The state is donated."""
    everywhere = replicated(mesh)
    return jax.jit(
        partial(train_chunk, config=config),
        in_shardings=(everywhere, everywhere, everywhere, _epoch_shardings(mesh), everywhere),
        out_shardings=everywhere,
        donate_argnums=0,
    )


def train_chunk(
    state: TrainState, images: Array, labels: Array, epoch: EpochInputs, inputs: ChunkInputs, *, config: StepConfig
) -> tuple[TrainState, Totals, Array]:
    """Runs L steps. images: [N, 28, 28] uint8; labels: [N] uint8.

    Returns the state, the steps' totals summed, and how many steps went by before the first whose loss is not finite.
    """
    indices = epoch.order[inputs.steps]  # [L, B]
    targets, mask = labels[indices], indices >= 0
    batches: Any = (indices, targets, inputs.steps)
    draw = partial(_draw, images=images, epoch_key=jax.random.wrap_key_data(epoch.key_bits), config=config)
    # A GPU draws many batches in the time of one; in a CPU's cache they would have no room.
    at_once = jax.default_backend() != "cpu"
    if at_once:
        batches = lax.map(draw, batches, batch_size=max(1, DRAWN_AT_ONCE // indices.shape[1]))

    def step(state: TrainState, given: tuple[Any, ChunkInputs]) -> tuple[TrainState, Array]:
        batch, now = given
        examples, key = batch if at_once else draw(batch)
        return train_step(state, examples, key, rate=now.rates, momentum=now.momenta, config=config)

    unroll = math.gcd(config.unroll, len(inputs.steps))  # a remainder would be compiled as a second loop
    state, logits = lax.scan(step, state, (batches, inputs), unroll=unroll)
    losses = jnp.sum(example_losses(logits, targets, mask, config), axis=-1)  # [L]
    return state, _totals(losses, logits, targets, mask, config), jnp.sum(jnp.cumprod(jnp.isfinite(losses)))


def _draw(
    batch: tuple[Array, Array, Array], images: Array, epoch_key: Array, config: StepConfig
) -> tuple[Examples, Array]:
    """A mini-batch's images, augmented, and the key that its layers consume.

    batch: indices [B] int32, labels [B] uint8, and [] int32, its place in the epoch.
    """
    indices, labels, step = batch
    augment_key, layers_key = jax.random.split(jax.random.fold_in(epoch_key, step))
    x = net.scale(images[indices])
    if config.augmentation:
        x = augment(x, labels, augment_key, augmentation=config.augmentation)
    return Examples(x, labels, indices >= 0), layers_key


def train_step(
    state: TrainState, examples: Examples, key: Array, *, rate: Array, momentum: Array, config: StepConfig
) -> tuple[TrainState, Array]:
    """One mini-batch; the key is consumed. rate: of learning; momentum: the share of the average that is kept.

    Returns the state, and the logits from before: [B, C].
    """
    gradient_of = jax.grad(_objective, has_aux=True)
    gradient, (statistics, logits) = gradient_of(state.parameters, state.statistics, examples, key, config)
    updates, optimizer_state = transformation(config.optimizer).update(
        gradient, state.optimizer_state, state.parameters, learning_rate=rate
    )
    parameters = net.constrain(optax.apply_updates(state.parameters, updates), network=config.network)
    average = None
    if state.average is not None:
        moved = partial(_average, momentum)
        average = jax.tree.map(moved, state.average, net.combine(parameters, statistics))
    return TrainState(parameters, statistics, average, optimizer_state), logits


def _average(momentum: Array, average: Array, value: Array) -> Array:
    return momentum * average + (1 - momentum) * value


def _objective(
    parameters: net.NetworkParameters,
    statistics: net.NetworkParameters,
    examples: Examples,
    key: Array,
    config: StepConfig,
) -> tuple[Array, tuple[net.NetworkParameters, Array]]:
    """What the step makes smaller: the batch's mean loss and the regularisation."""
    images, labels, mask = examples
    combined, batch = net.combine(parameters, statistics), Batch(key, mask)
    logits, statistics = net.apply_training(combined, images, batch, network=config.network, dtype=config.compute_dtype)
    mean = jnp.sum(example_losses(logits, labels, mask, config)) / jnp.sum(mask)
    return mean + net.penalty(parameters, network=config.network), (statistics, logits)


def example_losses(logits: Array, labels: Array, mask: Array, config: StepConfig) -> Array:
    """[..., B], weighted by class; zero where the mask is false. logits: [..., B, C]; labels, mask: [..., B]."""
    losses = loss_per_example(logits, labels, loss=config.loss, network=config.network)
    if config.class_weight:
        losses = losses * jnp.asarray(config.class_weight, jnp.float32)[labels]
    return losses * mask


def _totals(losses: Array, logits: Array, labels: Array, mask: Array, config: StepConfig) -> Totals:
    """Of a chunk at once, since every small kernel in the loop counts on a GPU. losses: [L]; labels, mask: [L, B]."""
    correct = correct_per_example(logits, labels, network=config.network) & mask  # [L, B]
    totals = Totals(jnp.sum(losses), jnp.sum(correct), jnp.sum(mask))
    if config.top_k:
        ranks = label_ranks(logits, labels, network=config.network)
        totals = totals._replace(top_k=jnp.sum((ranks < config.top_k) & mask))
    if config.per_class:
        of_class = jax.nn.one_hot(labels, CLASSES) * mask[..., None]  # [L, B, C]
        totals = totals._replace(
            class_correct=jnp.sum(of_class * correct[..., None], axis=(0, 1)),
            class_examples=jnp.sum(of_class, axis=(0, 1)),
        )
    return totals
