"""Writes tests/reference.json: what Keras and PyTorch compute, for tests/test_model_reference.py to agree with.

Run by hand, with neither in the project's own environment:

    python -m venv /tmp/reference
    /tmp/reference/bin/pip install keras==3.15.1 jax==0.10.2 torch==2.13.0
    KERAS_BACKEND=jax /tmp/reference/bin/python tests/make_reference.py

The file says which versions made it. Inputs are stored with the results, in float32.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import reference_layers
import reference_training
import torch

LOSSES: list[tuple[str, str, dict[str, Any]]] = [  # loss, last activation, Keras' arguments
    ("categorical_crossentropy", "softmax", {}),
    ("categorical_crossentropy", "softmax", {"label_smoothing": 0.1}),
    ("mean_squared_error", "softmax", {}),
    ("mean_squared_error", "linear", {}),
    ("mean_absolute_error", "sigmoid", {}),
    ("hinge", "linear", {}),
    ("hinge", "tanh", {}),
    ("kl_divergence", "softmax", {}),
    ("poisson", "softmax", {}),
    ("poisson", "sigmoid", {}),
]
FALLING = [0.1, 0.06, 0.03, 0.01, 0.005, 0.002]
OPTIMIZERS: list[tuple[str, type, dict[str, Any]]] = [
    ("sgd", keras.optimizers.SGD, {}),
    ("sgd", keras.optimizers.SGD, {"momentum": 0.9}),
    ("sgd", keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("rmsprop", keras.optimizers.RMSprop, {}),
    ("rmsprop", keras.optimizers.RMSprop, {"rho": 0.8, "momentum": 0.9, "epsilon": 1e-3, "centered": True}),
    ("adagrad", keras.optimizers.Adagrad, {}),
    ("adagrad", keras.optimizers.Adagrad, {"initial_accumulator_value": 0.0, "epsilon": 1e-2}),
    ("adadelta", keras.optimizers.Adadelta, {}),
    ("adadelta", keras.optimizers.Adadelta, {"rho": 0.8, "epsilon": 1e-2}),
    ("adam", keras.optimizers.Adam, {}),
    ("adam", keras.optimizers.Adam, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-2, "weight_decay": 0.1}),
    ("adamw", keras.optimizers.AdamW, {}),
    ("adamw", keras.optimizers.AdamW, {"weight_decay": 0.5}),
    ("adamax", keras.optimizers.Adamax, {}),
    ("adamax", keras.optimizers.Adamax, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-2}),
    ("nadam", keras.optimizers.Nadam, {}),
    ("nadam", keras.optimizers.Nadam, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-2}),
    ("lion", keras.optimizers.Lion, {}),
    ("lion", keras.optimizers.Lion, {"beta_1": 0.6, "weight_decay": 0.5}),
    ("sgd", keras.optimizers.SGD, {"clipnorm": 0.5}),
    ("sgd", keras.optimizers.SGD, {"clipvalue": 0.5}),
    ("sgd", keras.optimizers.SGD, {"global_clipnorm": 0.5}),
]
SHAPES = {"kernel": (2, 3), "bias": (3,)}
STEPS = 20


def main() -> None:
    random = np.random.default_rng(0)
    reference = {
        "made_by": {"keras": keras.__version__, "jax": jax.__version__, "torch": torch.__version__},
        "losses": _losses(random),
        "optimizers": _optimizers(random),
        "schedules": _schedules(),
        "numbers": (numbers := reference_layers.random_numbers(random)),
        "layers": reference_layers.layers(numbers),
        "regularizers": reference_training.regularizers(numbers),
        "constraints": reference_training.constraints(numbers),
        "trainings": reference_training.trainings(numbers, random),
        "callbacks": reference_training.callbacks(),
    }
    path = Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(_rounded(reference), separators=(",", ":")) + "\n")


def _losses(random: np.random.Generator) -> dict[str, Any]:
    """The last logits are large, so that softmax gives 0 and 1."""
    logits = np.concatenate([random.normal(size=(4, 10)), random.normal(size=(2, 10)) * 40]).astype(np.float32)
    labels = [3, 0, 9, 5, int(logits[4].argmax()), int(logits[5].argmin())]
    cases = [
        {"loss": name, "activation": activation, **arguments, **_loss(name, activation, arguments, logits, labels)}
        for name, activation, arguments in LOSSES
    ]
    return {"logits": logits, "labels": labels, "cases": cases}


def _loss(name: str, activation: str, arguments: dict[str, Any], logits: Any, labels: list[int]) -> dict[str, Any]:
    from_logits = name == "categorical_crossentropy"
    function = getattr(keras.losses, name)
    targets = np.eye(10, dtype=np.float32)[labels]

    def losses(logits: Any) -> Any:
        if from_logits:
            return function(targets, logits, from_logits=True, **arguments)
        return function(targets, getattr(keras.activations, activation)(logits), **arguments)

    return {"values": losses(logits), "gradient": jax.grad(lambda logits: losses(logits).mean())(logits)}


def _optimizers(random: np.random.Generator) -> dict[str, Any]:
    """A few steps of two small tensors; the third gradient is tiny, where it matters where epsilon stands."""
    parameters = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    scales = [1.0, 0.5, 1e-6, 1.0, 3.0, 1.0]
    gradients = [
        {name: (scale * random.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}
        for scale in scales
    ]
    cases = [
        {"type": name, **arguments, "learning_rate": rate, "values": _optimized(made, parameters, gradients)}
        for name, kind, arguments in OPTIMIZERS
        for rate, made in ((0.05, kind(0.05, **arguments)), ("falling", kind(_Falling(), **arguments)))
    ]
    defaults = {name: _defaults(kind()) for name, kind, _ in OPTIMIZERS}
    return {"parameters": parameters, "gradients": gradients, "falling": FALLING, "cases": cases, "defaults": defaults}


class _Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return FALLING[int(keras.ops.convert_to_numpy(step))]


def _optimized(optimizer: Any, parameters: dict[str, Any], gradients: list[dict[str, Any]]) -> list[dict[str, Any]]:
    variables = {name: keras.Variable(value) for name, value in parameters.items()}
    optimizer.build(list(variables.values()))
    values = []
    for gradient in gradients:
        optimizer.apply([gradient[name] for name in variables], list(variables.values()))
        values.append({name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()})
    return values


def _defaults(optimizer: Any) -> dict[str, Any]:
    """The constructor's arguments, without those that a spec says elsewhere or not at all."""
    config = optimizer.get_config()
    left_out = ("name", "use_ema", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor", "amsgrad")
    return {key: value for key, value in config.items() if key not in (*left_out, "gradient_accumulation_steps")}


def _schedules() -> list[dict[str, Any]]:
    keras_schedules = keras.optimizers.schedules
    exponential = {"type": "exponential_decay", "initial_learning_rate": 0.1, "decay_rate": 0.5}
    cosine = {"type": "cosine_decay", "initial_learning_rate": 0.4, "alpha": 0.25}
    step = {"type": "step_decay", "initial_learning_rate": 0.1, "drop": 0.5, "epochs_drop": 2}
    one_cycle = {"type": "one_cycle", "max_learning_rate": 0.5}
    other = {"pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0}
    return [
        _schedule(exponential, keras_schedules.ExponentialDecay(0.1, STEPS, 0.5)),
        _schedule({**exponential, "decay_steps": 3}, keras_schedules.ExponentialDecay(0.1, 3, 0.5)),
        _schedule(
            {**exponential, "decay_steps": 3, "staircase": True},
            keras_schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True),
        ),
        _schedule(step, keras_schedules.PiecewiseConstantDecay([7, 15], [0.1, 0.05, 0.025])),  # 4 steps an epoch
        _schedule(cosine, keras_schedules.CosineDecay(0.4, STEPS, alpha=0.25)),
        _schedule(
            {**cosine, "warmup_steps": 5},
            keras_schedules.CosineDecay(0.0, STEPS - 5, alpha=0.25, warmup_target=0.4, warmup_steps=5),
        ),
        _schedule(  # a cosine that falls to all of its height is level
            {"type": "constant", "learning_rate": 0.4, "warmup_steps": 5},
            keras_schedules.CosineDecay(0.0, STEPS - 5, alpha=1.0, warmup_target=0.4, warmup_steps=5),
        ),
        {**_case(one_cycle), "rates": _one_cycle(max_lr=0.5)},
        {**_case({**one_cycle, **other}), "rates": _one_cycle(max_lr=0.5, **other)},
    ]


def _case(schedule: dict[str, Any]) -> dict[str, Any]:
    return {"schedule": schedule, "steps": STEPS, "epochs": 5}


def _schedule(schedule: dict[str, Any], keras_schedule: Callable[[int], Any]) -> dict[str, Any]:
    return {**_case(schedule), "rates": [float(keras_schedule(step)) for step in range(STEPS)]}


def _one_cycle(**arguments: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, total_steps=STEPS, **arguments)
    rates = []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < STEPS - 1:
            schedule.step()
    return rates


def _rounded(value: Any) -> Any:
    """JSON's types; nine digits hold a float32 exactly."""
    if isinstance(value, dict):
        return {key: _rounded(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_rounded(member) for member in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return value if isinstance(value, int | str | None) else _rounded(np.asarray(value, np.float64).tolist())


if __name__ == "__main__":
    main()
