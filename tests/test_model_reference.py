"""Losses, optimizers and schedules agree with Keras and PyTorch: the vectors that tests/make_reference.py stored."""

import json
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from model.losses import loss_per_example
from model.optimizers import learning_rates, transformation
from model.spec import Dense, Flatten, Loss, LossName, loss_name
from model.spec_optimizers import LearningRate, Optimizer, Sgd

REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("reference.json").read_text())
LOSSES, OPTIMIZERS, SCHEDULES = REFERENCE["losses"], REFERENCE["optimizers"], REFERENCE["schedules"]
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

    np.testing.assert_allclose(losses(LOGITS), case["values"], rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda logits: losses(logits).mean())(LOGITS)
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
    rates = learning_rates(optimizer, steps=case["steps"], epochs=case["epochs"])
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
