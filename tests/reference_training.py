"""Keras around its layers for make_reference: regularizers, constraints, whole training steps and callbacks."""

import itertools
from typing import Any

import jax
import keras
import numpy as np
from reference_layers import filled

DENSE, CONV2D = [4, 5], [3, 3, 2, 3]  # shapes of kernels
REGULARIZERS = [{"l1": 0.01}, {"l1": 0.3, "l2": 0.2}]

POOL = {"type": "average_pooling2d", "pool_size": 14}
HEAD = {"type": "dense", "units": 10}
BOUNDED = {"kernel_regularizer": {"l1": 0.01, "l2": 0.02}, "kernel_constraint": {"type": "max_norm", "max_value": 1.5}}
ADAM, SGD = {"type": "adam", "learning_rate": 0.05}, {"type": "sgd", "learning_rate": 0.5, "momentum": 0.9}
WEIGHTS = [1.0, 0.5, 0.0, 2.0, 3.0, 1.0, 0.25, 1.5, 2.5, 1.0]
TRAININGS: list[dict[str, Any]] = [
    {"head": [HEAD], "optimizer": ADAM, "class_weight": WEIGHTS},
    {"head": [HEAD], "optimizer": SGD, "ema_momentum": 0.75},
    {"head": [{**HEAD, **BOUNDED}], "optimizer": SGD},
    {"head": [{"type": "batch_normalization", "momentum": 0.5}, HEAD], "optimizer": ADAM, "class_weight": WEIGHTS},
]

HISTORIES = {  # 256ths, so that a gain of exactly min_delta is one in any precision
    "improving": [200, 180, 164, 160, 152, 148, 140, 136, 135, 131, 128, 120],
    "plateau": [200, 160, 160, 158, 158, 157, 156, 158, 152, 152, 152, 152],
    "noisy": [200, 150, 170, 149, 160, 155, 130, 133, 131, 129, 126, 140],
}
MONITORS = ("validation_loss", "validation_accuracy")
STOPPINGS = [
    {"monitor": monitor, "patience": patience, "min_delta": min_delta}
    for monitor, patience, min_delta in itertools.product(MONITORS, (0, 1, 2), (0.0, 4 / 256))
]
PLATEAUS = [
    *(
        {"monitor": "validation_loss", "factor": 0.5, "patience": patience, "cooldown": cooldown, "min_delta": 0.0}
        for patience, cooldown in itertools.product((0, 1, 2), (0, 1, 2))
    ),
    {"monitor": "validation_accuracy", "factor": 0.5, "patience": 1, "min_delta": 4 / 256},
    {"monitor": "validation_accuracy", "factor": 0.5, "patience": 0, "min_delta": 4 / 256, "min_lr": 0.03},
    {"monitor": "validation_loss", "factor": 0.1, "patience": 1, "cooldown": 1, "min_lr": 0.005},
    {"monitor": "validation_loss", "factor": 0.5, "patience": 1, "min_lr": 0.2},  # above the rate from the start
]


def regularizers(numbers: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    cases = []
    for arguments, shape in itertools.product(REGULARIZERS, (DENSE, CONV2D)):
        value, gradient = jax.value_and_grad(keras.regularizers.L1L2(**arguments))(filled("kernel", shape, numbers))
        cases.append({"regularizer": arguments, "shape": shape, "value": value, "gradient": gradient})
    return cases


def constraints(numbers: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    cases = []
    for max_value, shape in itertools.product((0.5, 2.0), (DENSE, CONV2D)):
        axes = 0 if shape == DENSE else [0, 1, 2]
        bounded = keras.constraints.MaxNorm(max_value, axis=axes)(filled("kernel", shape, numbers))
        cases.append({"max_value": max_value, "shape": shape, "kernel": bounded})
    return cases


def trainings(numbers: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, Any]:
    """A few steps on one batch, of images of 2 × 2 blocks: pooled, they are their blocks."""
    blocks, labels = random.integers(0, 256, size=(6, 2, 2)), [3, 0, 9, 4, 2, 3]
    cases = [{**training, "steps": _train(training, blocks, labels, numbers)} for training in TRAININGS]
    return {"blocks": blocks.tolist(), "labels": labels, "pool": POOL, "cases": cases}


def _train(training: dict[str, Any], blocks: Any, labels: list[int], numbers: Any) -> list[dict[str, Any]]:
    images = np.kron(blocks, np.ones((1, 14, 14))).astype(np.float32)[..., None] / 255
    model = _compiled(training, numbers)
    weight = dict(enumerate(training["class_weight"])) if "class_weight" in training else None
    return [_step(model, images, np.array(labels), weight) for _ in range(3)]


def _compiled(training: dict[str, Any], numbers: dict[str, np.ndarray]) -> keras.Model:
    pool = keras.layers.AveragePooling2D(POOL["pool_size"])
    head = [_head(layer) for layer in training["head"]]
    model = keras.Sequential([keras.Input((28, 28, 1)), pool, keras.layers.Flatten(), *head])
    for variable in model.variables:
        variable.assign(filled(variable.name, variable.shape, numbers))
    arguments = {name: value for name, value in training["optimizer"].items() if name != "type"}
    if momentum := training.get("ema_momentum"):
        arguments |= {"use_ema": True, "ema_momentum": momentum}
    kind = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[training["optimizer"]["type"]]
    model.compile(kind(**arguments), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _head(layer: dict[str, Any]) -> keras.layers.Layer:
    if layer["type"] == "batch_normalization":
        return keras.layers.BatchNormalization(momentum=layer["momentum"])
    bounds = {}
    if "kernel_constraint" in layer:
        bounds["kernel_regularizer"] = keras.regularizers.L1L2(**layer["kernel_regularizer"])
        bounds["kernel_constraint"] = keras.constraints.MaxNorm(layer["kernel_constraint"]["max_value"], axis=0)
    return keras.layers.Dense(layer["units"], **bounds)


def _step(model: Any, images: np.ndarray, labels: np.ndarray, weight: dict[int, float] | None) -> dict[str, Any]:
    """loss: with regularization; averages: in the order of the parameters that are trained."""
    model.reset_metrics()
    loss = float(model.train_on_batch(images, labels, class_weight=weight))
    values = {variable.name: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    if not model.optimizer.use_ema:
        return {"loss": loss, "parameters": values}
    averages = model.optimizer._model_variables_moving_average
    names = [variable.name for variable in model.trainable_variables]
    of_name = {name: keras.ops.convert_to_numpy(value) for name, value in zip(names, averages, strict=True)}
    return {"loss": loss, "parameters": values, "average": of_name}


def callbacks() -> dict[str, Any]:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["accuracy"])
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))  # which metrics it has, a callback asks the model
    stoppings = [
        {"callback": stopping, "epochs": {history: _stopped(model, stopping, history) for history in HISTORIES}}
        for stopping in STOPPINGS
    ]
    plateaus = [
        {"callback": plateau, "rates": {history: _rates(model, plateau, history) for history in HISTORIES}}
        for plateau in PLATEAUS
    ]
    return {"histories": HISTORIES, "early_stopping": stoppings, "reduce_lr_on_plateau": plateaus}


def _stopped(model: Any, arguments: dict[str, Any], history: str) -> dict[str, Any]:
    """Epochs from 1; stopped: null where it went on to the end."""
    callback = keras.callbacks.EarlyStopping(**{**arguments, "monitor": _monitor(arguments)})
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(_values(arguments, history)):
        callback.on_epoch_end(epoch, {_monitor(arguments): value})
        if model.stop_training:
            return {"stopped": epoch + 1, "best_epoch": callback.best_epoch + 1}
    return {"stopped": None, "best_epoch": callback.best_epoch + 1}


def _rates(model: Any, arguments: dict[str, Any], history: str) -> list[float]:
    """The learning rate after each epoch."""
    callback = keras.callbacks.ReduceLROnPlateau(**{**arguments, "monitor": _monitor(arguments)})
    model.optimizer.learning_rate = 0.1
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(_values(arguments, history)):
        callback.on_epoch_end(epoch, {_monitor(arguments): value})
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


def _monitor(arguments: dict[str, Any]) -> str:
    return arguments["monitor"].replace("validation", "val")


def _values(arguments: dict[str, Any], history: str) -> list[float]:
    """Of an accuracy, what is missing to 1."""
    losses = [value / 256 for value in HISTORIES[history]]
    return losses if arguments["monitor"].endswith("loss") else [1 - loss for loss in losses]
