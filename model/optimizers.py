"""The optimizer of a spec as an Optax transformation, and its learning rate at each step.

The two are kept apart: the learning rate is data of the jitted step, so that changing it compiles nothing. Formulas
are Keras 3's; where Optax has another one, or none, the transformation is our own and says what differs.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from model.spec_optimizers import (
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Constant,
    CosineDecay,
    ExponentialDecay,
    Lion,
    Nadam,
    OneCycle,
    Optimizer,
    RmsProp,
    Sgd,
    StepDecay,
)

Tree = Any  # a pytree of arrays, shaped as the parameters are


def transformation(optimizer: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Turns gradients into what is added to the parameters: update(gradient, state, parameters, learning_rate=...).

    Clip, find the direction, scale by minus the learning rate; momentum is of steps so scaled, and weight decay comes
    last, beside them: Keras' order.
    """
    momentum = optimizer.momentum if isinstance(optimizer, Sgd | RmsProp) else 0.0
    nesterov = isinstance(optimizer, Sgd) and optimizer.nesterov
    parts = [
        *_clipping(optimizer),
        direction(optimizer),
        _descend(),
        *([optax.trace(momentum, nesterov)] if momentum else []),
        *([_shrink(optimizer.weight_decay)] if optimizer.weight_decay else []),
    ]
    return optax.chain(*parts)


def direction(optimizer: Optimizer) -> optax.GradientTransformation:
    """Turns gradients into the direction that, times minus the learning rate, is one step without momentum."""
    match optimizer:
        case Sgd():
            return optax.identity()
        case RmsProp(centered=True):
            return optax.scale_by_stddev(optimizer.rho, optimizer.epsilon)
        case RmsProp():
            return optax.scale_by_rms(optimizer.rho, optimizer.epsilon)
        case Adagrad():
            return optax.scale_by_rss(optimizer.initial_accumulator_value, optimizer.epsilon)
        case Adadelta():
            return optax.scale_by_adadelta(optimizer.rho, optimizer.epsilon)
        case Lion():
            return optax.scale_by_lion(optimizer.beta_1, optimizer.beta_2)
        case Adam() | AdamW():
            return _scale_by_adam(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        case Adamax():
            return _scale_by_adamax(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        case Nadam():
            return _scale_by_nadam(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)


def _clipping(optimizer: Optimizer) -> list[optax.GradientTransformation]:
    if (largest := optimizer.clipnorm) is not None:
        return [optax.stateless_with_tree_map(lambda gradient, _: _clip_norm(gradient, largest))]
    if optimizer.clipvalue is not None:
        return [optax.clip(optimizer.clipvalue)]
    if optimizer.global_clipnorm is not None:
        return [optax.clip_by_global_norm(optimizer.global_clipnorm)]
    return []


def _clip_norm(gradient: Array, largest: float) -> Array:
    """Optax clips each tensor by its root mean square; Keras by its norm."""
    return gradient * (largest / jnp.maximum(optax.tree.norm(gradient), largest))


def _descend() -> optax.GradientTransformationExtraArgs:
    """Optax keeps the learning rate in the state (`inject_hyperparams`) or the trace; here it is an argument."""

    def update(updates: Tree, state: Any, parameters: Tree = None, *, learning_rate: Array) -> tuple[Tree, Any]:
        return jax.tree.map(lambda update: -learning_rate * update, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _shrink(weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """Optax adds the decay before the learning rate, so before momentum; Keras takes it off the parameters."""

    def update(updates: Tree, state: Any, parameters: Tree, *, learning_rate: Array) -> tuple[Tree, Any]:
        share = weight_decay * learning_rate
        return jax.tree.map(lambda update, value: update - share * value, updates, parameters), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


class _Moments(NamedTuple):
    """steps: [] int32, how many so far; mean, spread: decaying means of the gradient and of its size."""

    steps: Array
    mean: Tree
    spread: Tree


class _NadamMoments(NamedTuple):
    """Adam's, and product: [] float32, of the momentum of every step so far."""

    moments: _Moments
    product: Array


def _start(parameters: Tree) -> _Moments:
    # Two trees of zeros: one used twice could not be donated.
    return _Moments(jnp.int32(0), optax.tree.zeros_like(parameters), optax.tree.zeros_like(parameters))


def _scale_by_adam(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformation:
    """Optax adds epsilon to the corrected root, Keras to the uncorrected one (the paper's epsilon-hat).

    So the bias corrections are one scalar, which also takes less memory traffic: 13 to 19 % of a step at batch 1 to 10.
    """

    def update(gradient: Tree, state: _Moments, parameters: Tree = None) -> tuple[Tree, _Moments]:
        state = _accumulate(state, gradient, beta_1, beta_2)
        scale = jnp.sqrt(1 - _power(beta_2, state.steps)) / (1 - _power(beta_1, state.steps))
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + epsilon), state.mean, state.spread)
        return updates, state

    return optax.GradientTransformation(_start, update)


def _scale_by_adamax(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformation:
    """Optax adds epsilon to the gradient's size within the maximum, Keras to the maximum."""

    def update(gradient: Tree, state: _Moments, parameters: Tree = None) -> tuple[Tree, _Moments]:
        steps = state.steps + 1
        mean = jax.tree.map(partial(_mix, beta_1), state.mean, gradient)
        largest = jax.tree.map(lambda u, g: jnp.maximum(beta_2 * u, jnp.abs(g)), state.spread, gradient)
        scale = 1 / (1 - _power(beta_1, steps))
        updates = jax.tree.map(lambda m, u: scale * m / (u + epsilon), mean, largest)
        return updates, _Moments(steps, mean, largest)

    return optax.GradientTransformation(_start, update)


def _scale_by_nadam(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformation:
    """Optax's momentum is beta_1 at every step, Keras' rises to it: beta_1 · (1 - 0.96^t / 2)."""

    def momentum(step: Array) -> Array:
        return beta_1 * (1 - 0.5 * _power(0.96, step))

    def start(parameters: Tree) -> _NadamMoments:
        return _NadamMoments(_start(parameters), jnp.float32(1.0))

    def update(gradient: Tree, state: _NadamMoments, parameters: Tree = None) -> tuple[Tree, _NadamMoments]:
        moments = _accumulate(state.moments, gradient, beta_1, beta_2)
        now, ahead = momentum(moments.steps), momentum(moments.steps + 1)
        product = state.product * now
        of_mean, of_gradient = ahead / (1 - product * ahead), (1 - now) / (1 - product)
        correction = 1 / (1 - _power(beta_2, moments.steps))

        def direction(gradient: Array, mean: Array, square: Array) -> Array:
            return (of_mean * mean + of_gradient * gradient) / (jnp.sqrt(correction * square) + epsilon)

        return jax.tree.map(direction, gradient, moments.mean, moments.spread), _NadamMoments(moments, product)

    return optax.GradientTransformation(start, update)


def _accumulate(state: _Moments, gradient: Tree, beta_1: float, beta_2: float) -> _Moments:
    mean = jax.tree.map(partial(_mix, beta_1), state.mean, gradient)
    squares = jax.tree.map(lambda v, g: _mix(beta_2, v, jnp.square(g)), state.spread, gradient)
    return _Moments(state.steps + 1, mean, squares)


def _mix(decay: float, mean: Array, value: Array) -> Array:
    return mean + (1 - decay) * (value - mean)


def _power(base: float, exponent: Array) -> Array:
    return jnp.power(jnp.float32(base), exponent.astype(jnp.float32))


def rates_at(
    optimizer: Optimizer, steps: NDArray[np.integer], *, total_steps: int, epochs: int = 1
) -> NDArray[np.float64]:
    """[L]: the learning rates of these steps, counted from 0, of a run of so many steps and epochs.

    A warm-up goes in a line from 0; the schedule takes the steps behind it.
    """
    schedule = optimizer.learning_rate
    if isinstance(schedule, OneCycle):
        return _one_cycle(schedule, steps, total_steps)
    if not isinstance(schedule, _Warmed):
        return np.full(steps.shape, schedule, np.float64)
    warmup = min(schedule.warmup_steps, total_steps)
    rise = steps / max(schedule.warmup_steps, 1)
    since_warmup = np.maximum(steps - warmup, 0)
    shares = _shares(schedule, since_warmup, total_steps - warmup, total_steps / epochs)
    return _first_rate(schedule) * np.where(steps < warmup, rise, shares)


_Warmed = Constant | StepDecay | ExponentialDecay | CosineDecay


def _first_rate(schedule: _Warmed) -> float:
    return schedule.learning_rate if isinstance(schedule, Constant) else schedule.initial_learning_rate


def _shares(
    schedule: _Warmed, since_warmup: NDArray[np.integer], decay_steps: int, epoch_steps: float
) -> NDArray[np.float64]:
    """[L]: each step's learning rate as a share of the first. decay_steps: from the end of the warm-up to the run's."""
    match schedule:
        case StepDecay():
            return schedule.drop ** np.floor(since_warmup / (epoch_steps * schedule.epochs_drop))
        case ExponentialDecay():
            decays = since_warmup / (schedule.decay_steps or max(decay_steps, 1))
            return schedule.decay_rate ** (np.floor(decays) if schedule.staircase else decays)
        case CosineDecay():
            return schedule.alpha + (1.0 - schedule.alpha) * _cosine(since_warmup / max(decay_steps, 1))
        case Constant():
            return np.ones(since_warmup.shape)


def _cosine(progress: NDArray[Any]) -> NDArray[np.float64]:
    """From 1 to 0 as progress goes from 0 to 1."""
    return 0.5 * (1.0 + np.cos(np.pi * progress))


def _one_cycle(schedule: OneCycle, step: NDArray[np.integer], steps: int) -> NDArray[np.float64]:
    """PyTorch's OneCycleLR: the peak is at step pct_start · steps - 1, the end at the last step."""
    peak_step = schedule.pct_start * steps - 1
    peak = schedule.max_learning_rate
    first = peak / schedule.div_factor
    last = first / schedule.final_div_factor
    rising = peak + (first - peak) * _cosine(step / max(peak_step, 1e-9))
    falling = last + (peak - last) * _cosine((step - peak_step) / (steps - 1 - peak_step))
    return np.where(step < peak_step, rising, falling)
