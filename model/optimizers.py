"""The optimizer of a spec as an Optax transformation, and its learning rate at each step.

The two are kept apart: the transformation gives a direction, and the learning rate is data of the jitted step, so
that changing it compiles nothing.
"""

import numpy as np
import optax
from numpy.typing import NDArray

from model.spec import CosineDecay, Optimizer, Sgd


def direction(optimizer: Optimizer) -> optax.GradientTransformation:
    """Turns gradients into the direction that, times minus the learning rate, is added to the parameters."""
    if isinstance(optimizer, Sgd):
        return optax.trace(optimizer.momentum, optimizer.nesterov) if optimizer.momentum else optax.identity()
    return optax.scale_by_adam(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)


def learning_rates(optimizer: Optimizer, *, steps: int) -> NDArray[np.float32]:
    """[steps] float32: the learning rate of each step of the whole run."""
    schedule = optimizer.learning_rate
    if not isinstance(schedule, CosineDecay):
        return np.full(steps, schedule, np.float32)
    cosine = 0.5 * (1.0 + np.cos(np.pi * np.arange(steps) / steps))
    share = schedule.alpha + (1.0 - schedule.alpha) * cosine
    return (schedule.initial_learning_rate * share).astype(np.float32)
