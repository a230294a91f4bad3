"""Layers, losses, optimizers, schedules, training steps and callbacks agree with Keras and PyTorch.

The vectors are those that tests/make_reference.py stored.
"""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from model import network as net
from model.callbacks import Patience, reduced, stops, watch
from model.layers import ACTIVATIONS, STATISTICS, Batch, Parameters, layer_functions
from model.losses import loss_per_example
from model.optimizers import rates_at, transformation
from model.reports import EpochReport
from model.spec import Loss, LossName, TrainSpec, loss_name
from model.spec_callbacks import EarlyStopping, ReduceLrOnPlateau
from model.spec_layers import Conv2D, Dense, Dropout, Flatten, Layer
from model.spec_optimizers import LearningRate, Optimizer, Sgd
from model.step import Examples, TrainState, example_losses, initial_state, step_config, train_step

REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("reference.json").read_text())
LOSSES, OPTIMIZERS, SCHEDULES = REFERENCE["losses"], REFERENCE["optimizers"], REFERENCE["schedules"]
LAYERS, TRAININGS, CALLBACKS = REFERENCE["layers"], REFERENCE["trainings"], REFERENCE["callbacks"]
LOGITS = jnp.asarray(LOSSES["logits"], jnp.float32)
LABELS = jnp.asarray(LOSSES["labels"])
INPUTS = ("values", "gradient", "activation", "rates", "steps", "epochs")


def said(case: dict[str, Any]) -> str:
    """A case's name in the test report: what it sets."""
    return " ".join(f"{key}={value}" for key, value in case.items() if key not in INPUTS)


def loss_of(case: dict[str, Any]) -> Loss:
    smoothed = {"type": case["loss"], "label_smoothing": case.get("label_smoothing")}
    return TypeAdapter(Loss).validate_python(smoothed if "label_smoothing" in case else case["loss"])


@pytest.mark.parametrize("case", LOSSES["cases"], ids=lambda case: f"{said(case)} of {case['activation']}")
def test_a_loss_and_its_gradient_equal_keras(case: dict[str, Any]) -> None:
    network = (Flatten(), Dense(units=10, activation=case["activation"]))

    def losses(logits: jax.Array) -> jax.Array:
        return loss_per_example(logits, LABELS, loss=loss_of(case), network=network)

    @jax.jit
    def both(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        return losses(logits), jax.grad(lambda logits: losses(logits).mean())(logits)

    values, gradient = both(LOGITS)
    np.testing.assert_allclose(values, case["values"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", OPTIMIZERS["cases"], ids=said)
def test_an_optimizers_steps_equal_keras(case: dict[str, Any]) -> None:
    settings = {key: value for key, value in case.items() if key not in ("values", "learning_rate")}
    rates = OPTIMIZERS["falling"] if case["learning_rate"] == "falling" else [case["learning_rate"]] * 6
    update = transformation(TypeAdapter(Optimizer).validate_python(settings))
    parameters = arrays(OPTIMIZERS["parameters"])
    state = update.init(parameters)
    for gradient, rate, expected in zip(OPTIMIZERS["gradients"], rates, case["values"], strict=True):
        updates, state = update.update(arrays(gradient), state, parameters, learning_rate=jnp.float32(rate))
        parameters = jax.tree.map(jnp.add, parameters, updates)
        for name, value in parameters.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-6, atol=5e-7, err_msg=name)


def arrays(tree: dict[str, Any]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value, jnp.float32) for name, value in tree.items()}


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: said(case["schedule"]))
def test_a_schedule_equals_keras_or_pytorch(case: dict[str, Any]) -> None:
    optimizer = Sgd.model_validate({"learning_rate": case["schedule"]})
    rates = rates_at(optimizer, np.arange(case["steps"]), total_steps=case["steps"], epochs=case["epochs"])
    np.testing.assert_allclose(rates, case["rates"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", OPTIMIZERS["defaults"])
def test_an_optimizers_fields_and_defaults_are_keras(name: str) -> None:
    optimizer = TypeAdapter(Optimizer).validate_python({"type": name})
    expected = {key: pytest.approx(value) for key, value in OPTIMIZERS["defaults"][name].items()}
    assert optimizer.model_dump(exclude={"type"}) == expected


def test_every_loss_optimizer_and_schedule_has_a_reference() -> None:
    assert {loss_name(loss_of(case)) for case in LOSSES["cases"]} == {*get_args(LossName)}
    kinds = {kind.model_fields["type"].default for kind in get_args(get_args(Optimizer)[0])}
    assert {case["type"] for case in OPTIMIZERS["cases"]} == kinds
    tags = {get_args(member)[-1].tag for member in get_args(get_args(LearningRate)[0])}
    assert {case["schedule"]["type"] for case in SCHEDULES} == tags - {"number"}


def numbers(name: str, shape: Any) -> jax.Array:
    return jnp.asarray(REFERENCE["numbers"][name][: math.prod(shape)], jnp.float32).reshape(shape)


def layer_of(case: dict[str, Any]) -> Layer:
    return TypeAdapter(Layer).validate_python(case["layer"])


def parameters_of(layer: Layer, input_shape: Any) -> Parameters:
    """The stored numbers, in the shapes that the layer's own init gives."""
    init = partial(layer_functions(layer).init, layer=layer, input_shape=input_shape)
    initial = jax.eval_shape(init, jax.random.key(0))
    return {name: numbers(name, value.shape) for name, value in initial.items()}


def said_layer(case: dict[str, Any]) -> str:
    kind, *settings = [str(value) if key == "type" else f"{key}={value}" for key, value in case["layer"].items()]
    tied = ["with ties"] if case["input"] == "ties" else []
    return " ".join([kind, *settings, "of", "x".join(map(str, case["shape"])), *tied])


def assert_equal_to_reference(actual: dict[str, Any], expected: dict[str, Any], *, atol: float = 1e-6) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=atol, err_msg=name)


@pytest.mark.parametrize("case", LAYERS, ids=said_layer)
def test_a_layers_output_and_gradients_equal_keras_or_pytorch(case: dict[str, Any]) -> None:
    layer, x = layer_of(case), numbers(case["input"], case["shape"])
    apply = partial(layer_functions(layer).apply, layer=layer)
    assert_gradients(apply, parameters_of(layer, x.shape[1:]), x, case)


def assert_gradients(apply: Any, parameters: Parameters, x: jax.Array, expected: dict[str, Any]) -> None:
    """Those of the sum of output times a stored cotangent."""

    @jax.jit
    def both(parameters: Parameters, x: jax.Array, cotangent: jax.Array) -> Any:
        output, pull = jax.vjp(apply, parameters, x)
        return output, *pull(cotangent)

    output, gradients, of_input = both(parameters, x, numbers("cotangent", np.shape(expected["output"])))
    assert_equal_to_reference({"output": output}, {"output": expected["output"]})
    assert {*parameters, "input"} - {*STATISTICS} == {*expected["gradients"]}
    assert_equal_to_reference({**gradients, "input": of_input}, expected["gradients"])


TRAINED = [case for case in LAYERS if "training" in case]


@pytest.mark.parametrize("case", TRAINED, ids=said_layer)
def test_batch_normalization_in_training_equals_keras(case: dict[str, Any]) -> None:
    layer, x = layer_of(case), numbers("input", case["shape"])

    def apply(parameters: Parameters, x: jax.Array) -> jax.Array:
        return in_training(layer, parameters, x)[0]

    assert_gradients(apply, parameters_of(layer, x.shape[1:]), x, case["training"])


def in_training(layer: Layer, parameters: Parameters, x: jax.Array) -> tuple[jax.Array, Parameters]:
    train = layer_functions(layer).apply_training
    assert train is not None
    return train(parameters, x, Batch(jax.random.key(0), jnp.ones(len(x), bool)), layer)


@pytest.mark.parametrize("case", TRAINED, ids=said_layer)
def test_batch_normalizations_running_statistics_equal_keras_after_each_step(case: dict[str, Any]) -> None:
    layer, x = layer_of(case), numbers("input", case["shape"])
    parameters = parameters_of(layer, x.shape[1:])
    for batch, expected in zip((x, 2 * x + 1), case["statistics"], strict=True):
        parameters |= in_training(layer, parameters, batch)[1]
        assert_equal_to_reference(parameters, expected)


@pytest.mark.parametrize("case", TRAINED, ids=said_layer)
def test_what_fills_a_batch_up_changes_nothing_in_batch_normalization(case: dict[str, Any]) -> None:
    layer, x = layer_of(case), numbers("input", case["shape"])
    filled, mask = jnp.concatenate([x, x[:1] * 100]), jnp.arange(len(x) + 1) < len(x)
    train = layer_functions(layer).apply_training
    assert train is not None

    def apply(parameters: Parameters, x: jax.Array) -> jax.Array:
        return train(parameters, filled.at[:-1].set(x), Batch(jax.random.key(0), mask), layer)[0][:-1]

    assert_gradients(apply, parameters_of(layer, x.shape[1:]), x, case["training"])


def kernel_layer(shape: list[int], **fields: Any) -> tuple[Layer]:
    if len(shape) == 2:
        return (Dense(units=shape[-1], **fields),)
    return (Conv2D(filters=shape[-1], kernel_size=shape[0], **fields),)


def said_kernel(case: dict[str, Any]) -> str:
    return f"{case.get('regularizer') or case['max_value']} of {'x'.join(map(str, case['shape']))}"


@pytest.mark.parametrize("case", REFERENCE["regularizers"], ids=said_kernel)
def test_a_penalty_and_its_gradient_equal_keras(case: dict[str, Any]) -> None:
    network = kernel_layer(case["shape"], kernel_regularizer=case["regularizer"])
    parameters = [{"kernel": numbers("kernel", case["shape"])}]
    value, gradient = jax.value_and_grad(partial(net.penalty, network=network))(parameters)
    assert_equal_to_reference(
        {"value": value, "gradient": gradient[0]["kernel"]}, without(case, "regularizer", "shape")
    )


def without(case: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in case.items() if name not in names}


@pytest.mark.parametrize("case", REFERENCE["constraints"], ids=said_kernel)
def test_a_bounded_kernel_equals_keras(case: dict[str, Any]) -> None:
    network = kernel_layer(case["shape"], kernel_constraint={"max_value": case["max_value"]})
    constrained = net.constrain([{"kernel": numbers("kernel", case["shape"])}], network=network)
    assert_equal_to_reference(constrained[0], {"kernel": case["kernel"]})


def said_training(case: dict[str, Any]) -> str:
    set_besides = [name for layer in case["head"] for name in layer if name.startswith("kernel")]
    layers = [layer["type"] for layer in case["head"]]
    return " ".join([*layers, *set_besides, *without(case, "head", "optimizer", "steps")])


@pytest.mark.parametrize("case", TRAININGS["cases"], ids=said_training)
def test_training_steps_equal_keras(case: dict[str, Any]) -> None:
    """Class weights, regularisation, constraints, running statistics and averages, as a whole step has them.

    Adam divides a gradient by its size, so a rounding in one near zero mask: hence the larger tolerance.
    """
    network = [TRAININGS["pool"], {"type": "flatten"}, *case["head"]]
    spec = TrainSpec.model_validate({"network": network, **without(case, "head", "steps")})
    state = state_of(spec)
    images = net.scale(jnp.asarray(np.kron(TRAININGS["blocks"], np.ones((1, 14, 14)))))
    labels = jnp.asarray(TRAININGS["labels"])
    examples = Examples(images, labels, mask=jnp.ones(len(images), bool))
    rate = jnp.float32(case["optimizer"]["learning_rate"])
    config = step_config(spec)
    step = jax.jit(partial(train_step, config=config))
    close = partial(assert_equal_to_reference, atol=5e-6)
    for number, expected in enumerate(case["steps"]):
        penalty = net.penalty(state.parameters, network=spec.network)
        momentum = jnp.float32(number and (spec.ema_momentum or 0))
        state, logits = step(state, examples, jax.random.key(number), rate=rate, momentum=momentum)
        loss = example_losses(logits, labels, examples.mask, config).mean() + penalty
        assert float(loss) == pytest.approx(expected["loss"], rel=1e-5)
        close(merged(net.combine(state.parameters, state.statistics)), expected["parameters"])
        assert ("average" in expected) == (state.average is not None)
        close(merged(state.average or []), expected.get("average", {}))


def state_of(spec: TrainSpec) -> TrainState:
    """An initial state, of the stored numbers."""
    state = initial_state(jax.random.key(0), spec)
    parameters, statistics = (
        [{name: numbers(name, value.shape) for name, value in layer.items()} for layer in part]
        for part in (state.parameters, state.statistics)
    )
    return state._replace(parameters=parameters, statistics=statistics)


def merged(layers: net.NetworkParameters) -> Parameters:
    """One dict, for layers that share no name."""
    return {name: value for layer in layers for name, value in layer.items()}


def reports(callback: EarlyStopping | ReduceLrOnPlateau, history: str) -> list[EpochReport]:
    losses = [value / 256 for value in CALLBACKS["histories"][history]]
    values = losses if callback.monitor.endswith("loss") else [1 - loss for loss in losses]
    others = {"loss": 0.0, "accuracy": 0.0, "seconds": 0.0}
    return [
        EpochReport.model_validate({**others, "epoch": epoch, callback.monitor: value})
        for epoch, value in enumerate(values, start=1)
    ]


def said_callback(case: dict[str, Any]) -> str:
    return said(case["callback"])


@pytest.mark.parametrize("history", CALLBACKS["histories"])
@pytest.mark.parametrize("case", CALLBACKS["early_stopping"], ids=said_callback)
def test_early_stopping_stops_where_keras_does(case: dict[str, Any], history: str) -> None:
    callback, patience, stopped = EarlyStopping.model_validate(case["callback"]), Patience(), None
    for report in reports(callback, history):
        patience = watch(patience, report, callback)
        if stops(patience, callback):
            stopped = report.epoch
            break
    assert {"stopped": stopped, "best_epoch": patience.best_epoch} == case["epochs"][history]


@pytest.mark.parametrize("history", CALLBACKS["histories"])
@pytest.mark.parametrize("case", CALLBACKS["reduce_lr_on_plateau"], ids=said_callback)
def test_a_plateau_lowers_the_learning_rate_where_keras_does(case: dict[str, Any], history: str) -> None:
    callback, patience, rate, rates = ReduceLrOnPlateau.model_validate(case["callback"]), Patience(), 0.1, []
    for report in reports(callback, history):
        patience, rate = reduced(patience, report, callback, rate)
        rates.append(rate)
    np.testing.assert_allclose(rates, case["rates"][history], rtol=1e-6)


def test_every_layer_and_activation_has_a_reference() -> None:
    assert {type(layer_of(case)) for case in LAYERS} == {*get_args(get_args(Layer)[0])} - {Dropout}
    activations = {case["layer"]["activation"] for case in LAYERS if case["layer"]["type"] == "activation"}
    assert activations == {*ACTIVATIONS}
