"""A spec accepts what can be trained and refuses the rest by field, layer and reason."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from app.registry import ENOUGH_VALIDATION_IMAGES
from model.confidence import ENOUGH_HELD_OUT
from model.data import examples_left
from model.network import parameter_count
from model.presets import PRESETS, TrainRequest
from model.spec import CategoricalCrossentropy, TrainSpec
from model.spec_base import Spec
from model.spec_layers import layer_shapes
from model.spec_optimizers import Optimizer, OptimizerName, Sgd

FLATTEN = {"type": "flatten"}
DROPOUT = {"type": "dropout", "rate": 0.5}
RELU = {"type": "activation", "activation": "relu"}


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


def test_the_tiny_preset_has_fewer_than_ten_thousand_parameters() -> None:
    assert sum(shape.parameters for shape in layer_shapes(PRESETS["tiny"].spec.network)) < 10_000


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "tutorial"])
def test_what_is_served_holds_out_enough_to_fit_a_temperature_and_to_be_judged_by(preset: str) -> None:
    held_out = 60_000 - examples_left(60_000, PRESETS[preset].spec.validation_split)
    assert held_out >= max(ENOUGH_HELD_OUT, ENOUGH_VALIDATION_IMAGES)


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
        ("name", "\0", "match pattern"),
        ("name", "x" * 101, "at most 100 characters"),
        ("dataset", "cifar10", "'mnist'"),
        ("loss", "huber", "'mean_squared_error'"),
        ("loss", 3, "'mean_squared_error'"),
        ("loss", {"type": "hinge"}, "'poisson', or an object whose type is 'categorical_crossentropy'"),
        ("metrics", [{"type": "accuracy"}], "'per_class_accuracy', or an object whose type is 'top_k_categorical"),
        ("optimizer", "newton", "'adam'"),
        ("loss", {"type": "categorical_crossentropy", "label_smoothing": 1.0}, "less than 1"),
        ("metrics", ["accuracy", "accuracy"], "accuracy is given more than once"),
        ("optimizer", {"type": "newton"}, "'adam'"),
        ("network", [], "at least 1 item"),
        ("network", [FLATTEN] + [{"type": "dropout", "rate": 0.1}] * 64, "at most 64 items"),
        ("colour", "red", "there is no such field here; there are name, dataset, network, loss, optimizer"),
        ("metrics", [{"type": "top_k_categorical_accuracy", "k": 11}], "less than or equal to 10"),
        ("augmentation", {}, "give at least one change above 0"),
        ("augmentation", {"shift": 15}, "less than or equal to 14"),
        ("augmentation", {"noise": 0.1, "probability": 0}, "greater than 0"),
        ("augmentation", {"variants": 1.1}, "less than or equal to 1"),
        ("class_weight", [1] * 9, "at least 10 items"),
        ("class_weight", [*[1] * 9, "1"], "valid number"),
        ("class_weight", [0] * 10, "at least one weight above 0"),
        ("class_weight", [-1] * 10, "greater than or equal to 0"),
        ("early_stopping", {"monitor": "loss", "patience": -1}, "greater than or equal to 0"),
        ("early_stopping", {}, "validation_loss needs validation_split above 0; or choose loss"),
        ("early_stopping", {"monitor": "speed"}, "'validation_loss'"),
        ("reduce_lr_on_plateau", {"monitor": "loss", "factor": 1}, "less than 1"),
        ("reduce_lr_on_plateau", {"monitor": "validation_accuracy"}, "needs validation_split above 0"),
        *(("ema_momentum", number, "less than or equal to 0.999999") for number in (1, 0.99999999)),  # 1 in float32
        ("compute_dtype", "float16", "'bfloat16'"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_field(field: str, value: Any, says: str) -> None:
    loc, message = refusal(**{field: value})
    assert loc[0] == field
    assert says in message


def kinds_of(kind: type[Spec]) -> Iterator[type[Spec]]:
    """Of this package: what another test of the process has imported is not looked at."""
    for narrower in kind.__subclasses__():
        if narrower.__module__.startswith("model."):
            yield narrower
            yield from kinds_of(narrower)


# 3.0 is a whole number in JSON Schema, and whoever has floats alone sends one.
@pytest.mark.parametrize(
    ("given", "others"), [(1, ["boolean"]), ("1", ["integer", "number", "boolean"]), (True, ["integer", "number"])]
)
def test_no_number_is_given_as_text_and_no_truth_value_as_a_number(given: Any, others: list[str]) -> None:
    taken = set()
    for kind in kinds_of(Spec):
        for field, schema in kind.model_json_schema()["properties"].items():
            if any(choice.get("type") in others for choice in schema.get("anyOf", [schema])):
                with pytest.raises(ValidationError) as caught:
                    kind.model_validate({field: given})
                if not any(error["loc"][:1] == (field,) for error in caught.value.errors()):
                    taken.add((kind.__name__, field))
    assert not taken
    assert TrainSpec(epochs=3.0).epochs == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "path", "says"),
    [
        ({"type": "batch_normalization", "momentum": 1}, "batch_normalization.momentum", "equal to 0.999999"),
        ({"type": "batch_normalization", "epsilon": 0}, "batch_normalization.epsilon", "greater than or equal to"),
        ({"type": "dense", "units": 9, "kernel_regularizer": {}}, "dense.kernel_regularizer", "give l1 or l2 above 0"),
        (
            {"type": "dense", "units": 9, "kernel_regularizer": {"l2": -1}},
            *("dense.kernel_regularizer.l2", "greater than or equal to 0"),
        ),
        (
            {"type": "dense", "units": 9, "kernel_constraint": {"max_value": 0}},
            *("dense.kernel_constraint.max_value", "greater than 0"),
        ),
    ],
)
def test_a_layers_field_out_of_bounds_is_refused_by_its_path(layer: dict[str, Any], path: str, says: str) -> None:
    loc, message = refusal(network=[FLATTEN, layer, {"type": "dense", "units": 10}])
    assert ".".join(str(part) for part in loc) == f"network.1.{path}"
    assert says in message


def test_a_plateau_needs_a_learning_rate_that_is_a_number() -> None:
    schedule = {"type": "adam", "learning_rate": {"type": "one_cycle", "max_learning_rate": 0.01}}
    loc, message = refusal(optimizer=schedule, reduce_lr_on_plateau={"monitor": "loss"})
    assert loc == ("reduce_lr_on_plateau",)
    assert "a number, not a schedule" in message


@pytest.mark.parametrize(
    ("optimizer", "path", "says"),
    [
        ({"type": "sgd", "momentum": 1.0}, "sgd.momentum", "less than or equal to 0.999999"),
        ({"type": "rmsprop", "rho": -0.1}, "rmsprop.rho", "greater than or equal to 0"),
        ({"type": "adagrad", "initial_accumulator_value": -1}, "adagrad.initial_accumulator_value", "or equal to 0"),
        ({"type": "adadelta", "epsilon": 0}, "adadelta.epsilon", "greater than or equal to"),
        ({"type": "adamax", "beta_2": 1 - 1e-8}, "adamax.beta_2", "less than or equal to 0.999999"),
        ({"type": "adamw", "weight_decay": 2}, "adamw.weight_decay", "less than or equal to 1"),
        ({"type": "adamw", "weight_decay": None}, "adamw.weight_decay", "valid number"),
        ({"type": "lion", "epsilon": 1e-7}, "lion.epsilon", "there are type, learning_rate, "),
        ({"type": "nadam", "clipnorm": 0}, "nadam.clipnorm", "greater than 0"),
        ({"type": "adam", "clipnorm": 1, "clipvalue": 1}, "adam.clipvalue", "one way of clipping at a time"),
        ({"type": "adam", "clipvalue": 1, "global_clipnorm": 1}, "adam.global_clipnorm", "null beside clipvalue"),
    ],
)
def test_an_optimizers_field_out_of_bounds_is_refused_by_its_path(
    optimizer: dict[str, Any], path: str, says: str
) -> None:
    loc, message = refusal(optimizer=optimizer)
    assert ".".join(loc[1:]) == path
    assert says in message


@pytest.mark.parametrize(
    ("schedule", "path", "says"),
    [
        ({"type": "polynomial"}, "", "or a schedule whose type is 'constant', 'step_decay'"),
        ({"initial_learning_rate": 0.1}, "", "a number above 0, at most 10, or a schedule whose type is"),
        ("fast", "", "a number above 0, at most 10, or a schedule"),
        ({"type": "constant", "learning_rate": 0}, "constant.learning_rate", "greater than 0"),
        ({"type": "step_decay", "initial_learning_rate": 0.1, "drop": 1}, "step_decay.drop", "less than 1"),
        (
            {"type": "exponential_decay", "initial_learning_rate": 0.1, "decay_rate": 0.9, "decay_steps": 0},
            *("exponential_decay.decay_steps", "greater than or equal to 1"),
        ),
        (
            {"type": "cosine_decay", "initial_learning_rate": 0.1, "warmup_steps": -1},
            *("cosine_decay.warmup_steps", "greater than or equal to 0"),
        ),
        ({"type": "one_cycle", "max_learning_rate": 0.1, "pct_start": 1}, "one_cycle.pct_start", "less than 1"),
    ],
)
def test_a_schedule_out_of_bounds_is_refused_by_its_path(schedule: Any, path: str, says: str) -> None:
    loc, message = refusal(optimizer={"type": "adam", "learning_rate": schedule})
    assert loc[:3] == ("optimizer", "adam", "learning_rate")
    assert ".".join(loc[3:]) == path
    assert says in message


@pytest.mark.parametrize("rate", [0, -0.1, 11, float("nan"), None])
def test_who_gives_a_rate_as_a_number_is_not_told_of_schedules(rate: float | None) -> None:
    loc, message = refusal(optimizer={"type": "adam", "learning_rate": rate})
    assert loc == ("optimizer", "adam", "learning_rate")
    assert message.endswith("Input should be a number above 0, at most 10")


@pytest.mark.parametrize(
    ("activation", "loss"), [("sigmoid", "kl_divergence"), ("linear", "poisson"), ("tanh", "categorical_crossentropy")]
)
def test_a_loss_that_the_outputs_do_not_fit_is_refused(activation: str, loss: str) -> None:
    loc, message = refusal(network=[FLATTEN, dense(10, activation)], loss=loss)
    assert loc == ("loss",)
    assert message.startswith(f"Value error, {loss} needs a last layer with softmax")


def test_label_smoothing_is_a_member_of_the_losss_object() -> None:
    assert TrainSpec(loss="categorical_crossentropy").loss == "categorical_crossentropy"
    spec = TrainSpec.model_validate({"loss": {"type": "categorical_crossentropy", "label_smoothing": 0.1}})
    assert spec.loss == CategoricalCrossentropy(label_smoothing=0.1)
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


def test_an_optimizer_may_be_named_alone_as_in_keras() -> None:
    assert TrainSpec.model_validate({"optimizer": "sgd"}) == TrainSpec(optimizer=Sgd())
    name, by_type = TypeAdapter[Optimizer](Optimizer).json_schema()["anyOf"]
    assert name["enum"] == [*get_args(OptimizerName)]
    assert set(name["enum"]) == set(by_type["discriminator"]["mapping"])


def test_a_path_has_fields_and_types_alone() -> None:
    for fields, path in [
        ({"loss": "huber"}, ("loss",)),
        ({"loss": {"label_smoothing": 1}}, ("loss", "categorical_crossentropy", "label_smoothing")),
        ({"metrics": ["f1"]}, ("metrics", 0)),
        ({"optimizer": {"type": "sgd", "learning_rate": 11}}, ("optimizer", "sgd", "learning_rate")),
    ]:
        assert refusal(**fields)[0] == path


@pytest.mark.parametrize("rate", [0.0, -0.1, 11.0, float("inf"), float("nan")])
def test_a_learning_rate_that_cannot_train_is_refused(rate: float) -> None:
    loc, _ = refusal(optimizer={"type": "sgd", "learning_rate": rate})
    assert loc[:3] == ("optimizer", "sgd", "learning_rate")


@pytest.mark.parametrize(
    ("network", "loc", "says"),
    [
        ([FLATTEN, FLATTEN, dense(10)], (1, "flatten"), "its input is flat already (784 numbers); remove this flatten"),
        ([dense(10)], (0, "dense"), "it needs a flat input, not 28 × 28 × 1; put a flatten before it"),
        ([FLATTEN, dense(12)], (1, "dense"), "the last layer must give 10 numbers, one a digit, not 12"),
        ([FLATTEN], (0, "flatten"), "the last layer must be dense or activation"),
        ([FLATTEN, dense(10), DROPOUT], (2, "dropout"), "the last layer must be dense or activation"),
        ([RELU], (0, "activation"), "the last layer must give 10 numbers, one a digit, not 28 × 28 × 1"),
        (
            [FLATTEN, dense(8192), dense(8192), dense(10)],
            (),
            "Value error, the network has 73,629,706 parameters; at most 16,000,000 are allowed",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_layer_and_reason(
    network: list[Any], loc: tuple[Any, ...], says: str
) -> None:
    assert refusal(network=network) == (("network", *loc), says)


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
