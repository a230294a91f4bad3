"""A spec accepts what can be trained and refuses the rest by field, layer and reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from model.network import parameter_count
from model.spec import PRESETS, TrainRequest, TrainSpec, layer_shapes

FLATTEN = {"type": "flatten"}


def dense(units: int, activation: str = "relu") -> dict[str, Any]:
    return {"type": "dense", "units": units, "activation": activation}


def refusal(**fields: Any) -> tuple[tuple[Any, ...], str]:
    """Where and why a spec is refused."""
    with pytest.raises(ValidationError) as caught:
        TrainSpec(**fields)
    first = caught.value.errors()[0]
    return first["loc"], first["msg"]


def test_the_defaults_are_the_tutorial_network() -> None:
    spec = TrainSpec()
    assert [layer.type for layer in spec.network] == ["flatten", "dense", "dense", "dense"]
    assert [shape.output_shape for shape in layer_shapes(spec.network)] == [(784,), (500,), (500,), (10,)]
    assert [layer.activation for layer in spec.network[1:]] == ["sigmoid", "sigmoid", "softmax"]
    assert (spec.loss, spec.optimizer.type, spec.optimizer.learning_rate) == ("categorical_crossentropy", "adam", 0.001)
    assert (spec.batch_size, spec.epochs, spec.validation_split, spec.seed) == (100, 20, 0.0, 0)
    assert parameter_count(spec.network) == 784 * 500 + 500 + 500 * 500 + 500 + 500 * 10 + 10


def test_a_spec_survives_json_and_is_hashable() -> None:
    for preset in PRESETS.values():
        assert TrainSpec.model_validate_json(preset.spec.model_dump_json()) == preset.spec
        assert hash(preset.spec) == hash(preset.spec.model_copy())


def test_a_preset_supplies_what_is_not_given() -> None:
    spec = TrainRequest.model_validate({"preset": "quick", "epochs": 7}).spec()
    assert type(spec) is TrainSpec
    assert spec == PRESETS["quick"].spec.model_copy(update={"epochs": 7})
    assert TrainRequest.model_validate({}).spec() == TrainSpec()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("epochs", 0, "greater than or equal to 1"),
        ("epochs", 1001, "less than or equal to 1000"),
        ("batch_size", 100_000, "less than or equal to 10000"),
        ("batch_size", 1.5, "valid integer"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        ("validation_split", 0.95, "less than or equal to 0.9"),
        ("validation_split", 1e-9, "at least 0.001"),
        ("validation_split", float("nan"), "finite number"),
        ("name", "", "at least 1 character"),
        ("name", " \t", "match pattern"),
        ("name", "two\nlines", "match pattern"),
        ("name", "x" * 101, "at most 100 characters"),
        ("dataset", "cifar10", "'mnist'"),
        ("loss", "hinge", "'mean_squared_error'"),
        ("metrics", ["accuracy", "accuracy"], "at most 1 item"),
        ("optimizer", {"type": "newton"}, "'adam'"),
        ("network", [], "at least 1 item"),
        ("network", [FLATTEN] + [{"type": "dropout", "rate": 0.1}] * 64, "at most 64 items"),
        ("colour", "red", "Extra inputs are not permitted"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_field(field: str, value: Any, says: str) -> None:
    loc, message = refusal(**{field: value})
    assert loc[0] == field
    assert says in message


@pytest.mark.parametrize("rate", [0.0, -0.1, 11.0, float("inf"), float("nan")])
def test_a_learning_rate_that_cannot_train_is_refused(rate: float) -> None:
    loc, _ = refusal(optimizer={"type": "sgd", "learning_rate": rate})
    assert loc[:3] == ("optimizer", "sgd", "learning_rate")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ([FLATTEN, FLATTEN, dense(10)], "layer 1 (flatten): its input is flat already (784 numbers)"),
        ([dense(10)], "layer 0 (dense): it needs a flat input, not 28 × 28 × 1; put a flatten before it"),
        ([FLATTEN, dense(12)], "layer 1 (dense): the last layer must give 10 numbers, one a digit, not 12"),
        ([FLATTEN], "layer 0 (flatten): the last layer must be dense or activation"),
        ([FLATTEN, dense(10), {"type": "dropout", "rate": 0.5}], "layer 2 (dropout): the last layer must be"),
        ([{"type": "activation", "activation": "relu"}], "layer 0 (activation): the last layer must give 10"),
        ([FLATTEN, dense(8192), dense(8192), dense(10)], "at most 16,000,000 are allowed"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_layer_and_reason(network: list[Any], says: str) -> None:
    loc, message = refusal(network=network)
    assert loc == ("network",)
    assert says in message


def test_a_layer_that_is_too_wide_is_refused_by_its_index() -> None:
    loc, message = refusal(network=[FLATTEN, dense(10**9), dense(10)])
    assert loc == ("network", 1, "dense", "units")
    assert "less than or equal to 8192" in message


def test_crossentropy_after_a_sigmoid_is_refused_even_by_default() -> None:
    network = [FLATTEN, dense(10, "sigmoid")]
    loc, message = refusal(network=network)
    assert loc == ("loss",)
    assert "choose mean_squared_error" in message
    assert TrainSpec(network=network, loss="mean_squared_error").loss == "mean_squared_error"
