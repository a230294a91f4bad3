"""Layers, network, losses and optimizers agree with values computed by hand or with NumPy."""

import itertools
import math
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from model import network as net
from model.layers import ACTIVATIONS, Batch, layer_functions
from model.losses import correct_per_example, loss_per_example
from model.optimizers import rates_at, transformation
from model.spec import LossName, TrainSpec
from model.spec_layers import Activation, ActivationLayer, Dense, Dropout, Flatten, Layer
from model.spec_optimizers import (
    Adam,
    Constant,
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    Optimizer,
    Sgd,
    StepDecay,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
SOFTMAX = (Flatten(), Dense(units=10, activation="softmax"))
SIGMOID = (Flatten(), Dense(units=10, activation="sigmoid"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_equals_its_formula(activation: Activation) -> None:
    x = np.linspace(-6, 6, 30, dtype=np.float64).reshape(3, 10)
    formula = {
        "linear": x,
        "leaky_relu": np.where(x > 0, x, 0.2 * x),
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "gelu": 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        "silu": x / (1 + np.exp(-x)),
        "softplus": np.log1p(np.exp(x)),
        "hard_sigmoid": np.clip(x / 6 + 0.5, 0, 1),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
        "relu": np.maximum(x, 0),
        "softmax": np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
    }
    np.testing.assert_allclose(ACTIVATIONS[activation](jnp.asarray(x, jnp.float32)), formula[activation], atol=1e-6)


def test_a_network_equals_the_same_in_numpy() -> None:
    network = TrainSpec().network
    parameters = net.init(jax.random.key(1), network)
    x = IMAGES.reshape(5, 784) / 255
    for layer in parameters[1:3]:
        x = 1 / (1 + np.exp(-(x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"]))))
    logits = x @ np.asarray(parameters[3]["kernel"], np.float64) + np.asarray(parameters[3]["bias"])
    apply = jax.jit(partial(net.apply, network=network))
    np.testing.assert_allclose(apply(parameters, IMAGES), logits, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.probabilities(jnp.asarray(logits), spec=TrainSpec()), expected, atol=1e-6)


def test_a_dense_layer_starts_glorot_uniform_with_zero_bias() -> None:
    layer = Dense(units=300)
    parameters = layer_functions(layer).init(jax.random.key(0), layer, (500,))
    limit = math.sqrt(6 / 800)
    kernel = np.asarray(parameters["kernel"])
    assert kernel.shape == (500, 300)
    assert np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=0.01)  # of a uniform distribution
    assert not np.asarray(parameters["bias"]).any()


def test_dropout_zeroes_its_share_scales_the_rest_and_rests_outside_training() -> None:
    layer = Dropout(rate=0.3)
    x = jnp.ones((100, 1000))
    functions = layer_functions(layer)
    assert functions.apply_training is not None
    dropped = np.asarray(functions.apply_training({}, x, Batch(jax.random.key(0), jnp.ones(100, bool)), layer)[0])
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.7)}
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert (functions.apply({}, x, layer) == x).all()


def test_a_last_activation_layer_is_fused_as_a_dense_ones_is() -> None:
    split: tuple[Layer, ...] = (Flatten(), Dense(units=10), ActivationLayer(activation="softmax"))
    parameters = net.init(jax.random.key(0), SOFTMAX)
    logits = net.apply(parameters, IMAGES, network=SOFTMAX)
    np.testing.assert_array_equal(net.apply([*parameters, {}], IMAGES, network=split), logits)
    np.testing.assert_array_equal(net.outputs(logits, network=split), net.outputs(logits, network=SOFTMAX))


def test_the_last_dense_layer_is_computed_in_float32_whatever_follows_it() -> None:
    apart: tuple[Layer, ...] = (Flatten(), Dense(units=10), Dropout(rate=0.0), ActivationLayer(activation="softmax"))
    parameters = net.init(jax.random.key(0), apart)

    def logits(parameters: net.NetworkParameters, network: tuple[Layer, ...]) -> jax.Array:
        batch = Batch(jax.random.key(1), jnp.ones(5, bool))
        return net.apply_training(parameters, net.scale(IMAGES), batch, network=network, dtype="bfloat16")[0]

    np.testing.assert_array_equal(logits(parameters, apart), logits(parameters[:2], SOFTMAX))


LINEAR = (Flatten(), Dense(units=10))


@pytest.mark.parametrize(
    ("network", "loss"),
    [
        (SOFTMAX, "categorical_crossentropy"),
        (SOFTMAX, "kl_divergence"),
        (LINEAR, {"type": "categorical_crossentropy", "label_smoothing": 0.1}),
        (LINEAR, "mean_absolute_error"),
        (LINEAR, "hinge"),
        (SOFTMAX, "mean_squared_error"),
        (LINEAR, "categorical_crossentropy"),
        (SIGMOID, "mean_squared_error"),
    ],
)
def test_probabilities_sum_to_one_and_keep_the_outputs_order(network: tuple[Layer, ...], loss: object) -> None:
    logits = net.apply(net.init(jax.random.key(0), network), IMAGES, network=network)
    spec = TrainSpec.model_validate({"network": network, "loss": loss})
    probabilities = np.asarray(net.probabilities(logits, spec=spec))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argsort(axis=1), np.asarray(logits).argsort(axis=1))


@pytest.mark.parametrize("loss", ["mean_squared_error", "hinge"])
def test_outputs_that_are_all_low_still_name_their_largest(loss: str) -> None:
    spec = TrainSpec.model_validate({"network": LINEAR, "loss": loss})
    outputs = jnp.linspace(-3.0, -1.5, 10)[None, :]
    assert int(net.probabilities(outputs, spec=spec).argmax()) == 9


@pytest.mark.parametrize(
    ("loss", "activation", "low", "high"),  # of logits that give such outputs as the loss asks for
    [
        ("mean_squared_error", "linear", -0.05, 0.85),
        ("hinge", "linear", -1.1, 0.9),
        ("hinge", "tanh", -9, 9),
        ("hinge", "elu", -20, 1),
        ("hinge", "leaky_relu", -5, 1),
        ("hinge", "sigmoid", -20, 20),
        ("hinge", "hard_sigmoid", -4, 4),
        ("hinge", "relu", -3, 1),
        ("hinge", "softplus", -20, 1),
        ("hinge", "gelu", -9, 1),
        ("hinge", "silu", -20, 1),
    ],
)
def test_outputs_as_sure_as_the_loss_asks_for_give_confidence(
    loss: LossName, activation: Activation, low: float, high: float
) -> None:
    spec = TrainSpec(network=(Flatten(), Dense(units=10, activation=activation)), loss=loss)
    logits = jnp.full((1, 10), float(low)).at[0, 3].set(high)
    assert float(net.probabilities(logits, spec=spec)[0, 3]) == pytest.approx(1.0, abs=1e-4)


def test_a_network_that_knows_nothing_has_loss_ln_10() -> None:
    losses = loss_per_example(jnp.zeros((5, 10)), jnp.arange(5), loss="categorical_crossentropy", network=SOFTMAX)
    np.testing.assert_allclose(losses, math.log(10), rtol=1e-6)


def test_crossentropy_stays_finite_for_large_logits() -> None:
    logits = jnp.zeros((1, 10)).at[0, 3].set(1e4)
    wrong = loss_per_example(logits, jnp.array([0]), loss="categorical_crossentropy", network=SOFTMAX)
    assert float(wrong[0]) == 1e4


def test_mean_squared_error_is_of_the_outputs_not_the_logits() -> None:
    losses = loss_per_example(jnp.zeros((1, 10)), jnp.array([3]), loss="mean_squared_error", network=SIGMOID)
    assert float(losses[0]) == pytest.approx(0.25)  # every output is 0.5, half away from 0 or 1


@pytest.mark.parametrize("loss", ["kl_divergence", "poisson"])
def test_a_loss_of_probabilities_is_finite_where_the_label_has_none(loss: str) -> None:
    def loss_of(logits: jax.Array) -> jax.Array:
        return loss_per_example(logits, jnp.array([0]), loss=loss, network=SOFTMAX)[0]

    logits = jnp.zeros((1, 10)).at[0, 3].set(1e4)
    value, gradient = jax.jit(jax.value_and_grad(loss_of))(logits)
    assert math.isfinite(value)
    assert np.isfinite(gradient).all()


def test_correct_is_where_the_largest_output_is_the_label() -> None:
    logits = jnp.eye(10)[jnp.array([3, 4])]
    assert correct_per_example(logits, jnp.array([3, 5]), network=SOFTMAX).tolist() == [True, False]


@pytest.mark.parametrize("loss", get_args(LossName))
def test_a_losss_gradient_equals_its_finite_differences(loss: LossName) -> None:
    def mean_loss(logits: jax.Array) -> jax.Array:
        return loss_per_example(logits, jnp.array([1, 2]), loss=loss, network=SOFTMAX).mean()

    check_grads(jax.jit(mean_loss), (jax.random.normal(jax.random.key(0), (2, 10)),), order=1, rtol=1e-2)


def all_rates(optimizer: Optimizer, steps: int, epochs: int = 1) -> np.ndarray:
    return rates_at(optimizer, np.arange(steps), total_steps=steps, epochs=epochs)


def steps(optimizer: Optimizer, gradients: list[float]) -> list[float]:
    """The parameter after each step from 1.0."""
    rule, parameter = transformation(optimizer), jnp.float32(1.0)
    state, values = rule.init(parameter), []
    for gradient, rate in zip(gradients, all_rates(optimizer, len(gradients)), strict=True):
        update, state = rule.update(jnp.float32(gradient), state, parameter, learning_rate=rate)
        parameter += update
        values.append(float(parameter))
    return values


GRADIENTS = [1.0, 0.5, -2.0]


def test_sgd_follows_the_gradient() -> None:
    assert steps(Sgd(learning_rate=0.1), GRADIENTS) == pytest.approx([0.9, 0.85, 1.05])


def test_sgd_with_momentum_equals_keras_formula() -> None:
    velocities = list(itertools.accumulate(GRADIENTS, lambda v, g: 0.9 * v - 0.1 * g, initial=0.0))[1:]
    expected = [1 + v for v in itertools.accumulate(velocities)]
    assert steps(Sgd(learning_rate=0.1, momentum=0.9), GRADIENTS) == pytest.approx(expected)
    ahead = [0.9 * v - 0.1 * g for v, g in zip(velocities, GRADIENTS, strict=True)]
    expected = [1 + w for w in itertools.accumulate(ahead)]
    assert steps(Sgd(learning_rate=0.1, momentum=0.9, nesterov=True), GRADIENTS) == pytest.approx(expected)


def test_adam_equals_its_papers_algorithm() -> None:
    mean = variance = 0.0
    parameter, expected = 1.0, []
    for step, gradient in enumerate(GRADIENTS, start=1):
        mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient**2
        parameter -= 0.01 * (mean / (1 - 0.9**step)) / (math.sqrt(variance / (1 - 0.999**step)) + 1e-7)
        expected.append(parameter)
    assert steps(Adam(learning_rate=0.01), GRADIENTS) == pytest.approx(expected, abs=1e-6)


def test_a_warm_up_rises_in_a_line_and_the_schedule_starts_behind_it() -> None:
    for schedule in (
        Constant(learning_rate=0.4, warmup_steps=10),
        StepDecay(initial_learning_rate=0.4, epochs_drop=3, warmup_steps=10),
        ExponentialDecay(initial_learning_rate=0.4, decay_rate=0.1, warmup_steps=10),
        CosineDecay(initial_learning_rate=0.4, warmup_steps=10),
    ):
        rates = all_rates(Sgd(learning_rate=schedule), 50, epochs=5)
        np.testing.assert_allclose(rates[:11], np.arange(11) * 0.04, rtol=1e-6)
        without = Sgd(learning_rate=schedule.model_copy(update={"warmup_steps": 0}))
        np.testing.assert_allclose(rates[10:], all_rates(without, 40, epochs=4), rtol=1e-6)


def test_a_runs_rates_are_the_same_piece_by_piece() -> None:
    for schedule in (
        StepDecay(initial_learning_rate=0.4, epochs_drop=3, warmup_steps=10),
        ExponentialDecay(initial_learning_rate=0.4, decay_rate=0.1),
        CosineDecay(initial_learning_rate=0.4, warmup_steps=10),
        OneCycle(max_learning_rate=0.4),
    ):
        optimizer = Sgd(learning_rate=schedule)
        of_piece = partial(rates_at, optimizer, total_steps=1000, epochs=9)
        pieces = [of_piece(piece) for piece in np.array_split(np.arange(1000), 77)]
        np.testing.assert_array_equal(np.concatenate(pieces), all_rates(optimizer, 1000, epochs=9))


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_schedule_of_a_short_run_is_finite_and_never_above_its_peak(steps: int) -> None:
    for schedule in (
        OneCycle(max_learning_rate=0.4),
        OneCycle(max_learning_rate=0.4, pct_start=0.5),
        ExponentialDecay(initial_learning_rate=0.4, decay_rate=0.1, warmup_steps=3),
        CosineDecay(initial_learning_rate=0.4, warmup_steps=1000),
    ):
        rates = all_rates(Sgd(learning_rate=schedule), steps)
        assert rates.shape == (steps,)
        assert ((rates >= 0) & (rates <= np.float32(0.4))).all()


def test_one_cycle_is_at_its_peak_after_its_share_of_the_steps_and_at_its_end_in_the_last() -> None:
    schedule = OneCycle(max_learning_rate=0.5, pct_start=0.25, div_factor=10, final_div_factor=100)
    rates = all_rates(Sgd(learning_rate=schedule), 1000)
    assert (rates[0], rates.argmax(), rates[249], rates[-1]) == tuple(map(pytest.approx, (0.05, 249, 0.5, 0.0005)))


def test_cosine_decay_goes_from_the_first_rate_to_its_share() -> None:
    schedule = CosineDecay(initial_learning_rate=0.4, alpha=0.25)
    rates = all_rates(Sgd(learning_rate=schedule), 1000)
    assert (rates[0], rates[500]) == (pytest.approx(0.4), pytest.approx(0.25))
    assert rates[-1] == pytest.approx(0.1, abs=1e-5)
    assert (np.diff(rates) <= 0).all()
