"""Keras' and PyTorch's layers for make_reference: outputs, and the gradient of Σ output · cotangent."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import keras
import numpy as np
import torch
from torch.nn import functional

IMAGES = [1, 6, 5, 2]  # one even and one odd side
KINDS: dict[str, type] = {
    "dense": keras.layers.Dense,
    "conv2d": keras.layers.Conv2D,
    "max_pooling2d": keras.layers.MaxPooling2D,
    "average_pooling2d": keras.layers.AveragePooling2D,
    "global_average_pooling2d": keras.layers.GlobalAveragePooling2D,
    "flatten": keras.layers.Flatten,
    "activation": keras.layers.Activation,
    "batch_normalization": keras.layers.BatchNormalization,
}
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # PyTorch's: Keras on JAX calls the project's own
    "linear": torch.clone,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "leaky_relu": partial(functional.leaky_relu, negative_slope=0.2),
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "softmax": partial(functional.softmax, dim=-1),
    "hard_sigmoid": functional.hardsigmoid,
}
PADDINGS = ("valid", "same")
OTHER_WINDOWS = [(1, 1, "valid"), (1, 2, "same"), (5, 1, "valid"), (5, 2, "same")]  # side, stride, padding
LAYERS: list[tuple[dict[str, Any], list[int]]] = [  # Keras' arguments, the input's shape
    *(({"type": "dense", "units": 5, "activation": name}, [3, 4]) for name in ("linear", "relu", "gelu", "softmax")),
    *(
        ({"type": "conv2d", "filters": 2, "kernel_size": side, "strides": stride, "padding": padding}, IMAGES)
        for side, stride, padding in (*itertools.product((2, 3), (1, 2), PADDINGS), *OTHER_WINDOWS)
    ),
    ({"type": "conv2d", "filters": 3, "kernel_size": 3, "padding": "same", "activation": "relu"}, [2, 4, 3, 4]),
    ({"type": "conv2d", "filters": 5, "kernel_size": 2, "padding": "same"}, [1, 3, 3, 1]),  # more filters than inputs
    ({"type": "conv2d", "filters": 1, "kernel_size": 3, "padding": "same"}, [9, 2, 2, 1]),  # batches that go in pieces
    ({"type": "conv2d", "filters": 1, "kernel_size": 5, "padding": "same"}, [18, 2, 2, 1]),
    *(
        ({"type": kind, "pool_size": side, "strides": stride, "padding": padding}, IMAGES)
        for kind in ("max_pooling2d", "average_pooling2d")
        for (side, stride), padding in itertools.product([(2, None), (2, 1), (3, 2), (2, 3)], PADDINGS)
    ),
    ({"type": "global_average_pooling2d"}, [2, 4, 3, 2]),
    ({"type": "flatten"}, [2, 3, 2, 2]),
    ({"type": "activation", "activation": "softmax"}, [2, 3, 2, 2]),
    *(
        ({"type": "batch_normalization", **arguments}, shape)
        for arguments, shape in itertools.product(({}, {"momentum": 0.5, "epsilon": 0.1}), ([5, 3], [2, 3, 2, 2]))
    ),
]
TIED: list[tuple[dict[str, Any], list[int]]] = [  # several largest numbers in a window
    ({"type": "max_pooling2d", "pool_size": 2}, IMAGES),
    ({"type": "max_pooling2d", "pool_size": 3, "strides": 2, "padding": "same"}, IMAGES),
]


def random_numbers(random: np.random.Generator) -> dict[str, np.ndarray]:
    """What an array of that name is filled with, from the front, whatever its shape."""
    sizes = {"input": 96, "cotangent": 72, "kernel": 108, "bias": 10, "gamma": 4, "beta": 4, "moving_mean": 4}
    numbers = {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    variances = random.uniform(0.5, 2.0, size=4).astype(np.float32)
    normal = numbers["input"]
    inputs = {"ties": np.round(normal[:60]), "wide": 3 * normal[:12]}  # up to where a hard sigmoid is flat
    return {**numbers, "moving_variance": variances, **inputs}


def layers(numbers: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    by_keras = [
        {"layer": layer, "shape": shape, "input": name, **_keras(layer, filled(name, shape, numbers), numbers)}
        for name, cases in (("input", LAYERS), ("ties", TIED))
        for layer, shape in cases
    ]
    by_pytorch = [
        {"layer": {"type": "activation", "activation": name}, **_pytorch(function, numbers)}
        for name, function in ACTIVATIONS.items()
    ]
    return by_keras + by_pytorch


def filled(name: str, shape: Any, numbers: dict[str, np.ndarray]) -> np.ndarray:
    return numbers[name][: math.prod(shape)].reshape(shape)


def _keras(arguments: dict[str, Any], x: np.ndarray, numbers: dict[str, np.ndarray]) -> dict[str, Any]:
    layer = KINDS[arguments["type"]](**{name: value for name, value in arguments.items() if name != "type"})
    layer.build(x.shape)
    for variable in layer.variables:
        variable.assign(filled(variable.name, variable.shape, numbers))
    if not layer.non_trainable_variables:
        return _gradients(layer, x, numbers, training=False)
    result = {**_gradients(layer, x, numbers, training=False), "training": _gradients(layer, x, numbers, training=True)}
    return {**result, "statistics": [_statistics(layer, batch) for batch in (x, 2 * x + 1)]}


def _gradients(layer: Any, x: np.ndarray, numbers: dict[str, np.ndarray], *, training: bool) -> dict[str, Any]:
    statistics = [variable.value for variable in layer.non_trainable_variables]

    def output(parameters: list[Any], x: Any) -> Any:
        return layer.stateless_call(parameters, statistics, x, **{"training": training} if statistics else {})[0]

    y, pull = jax.vjp(output, [variable.value for variable in layer.trainable_variables], x)
    gradients, of_input = pull(filled("cotangent", y.shape, numbers))
    names = [variable.name for variable in layer.trainable_variables]
    return {"output": y, "gradients": {"input": of_input, **dict(zip(names, gradients, strict=True))}}


def _statistics(layer: Any, batch: np.ndarray) -> dict[str, Any]:
    """The running ones, after a step more."""
    layer(batch, training=True)
    return {variable.name: keras.ops.convert_to_numpy(variable) for variable in layer.non_trainable_variables}


def _pytorch(function: Callable[[torch.Tensor], torch.Tensor], numbers: dict[str, np.ndarray]) -> dict[str, Any]:
    x = torch.tensor(filled("wide", [3, 4], numbers), requires_grad=True)
    y = function(x)
    y.backward(torch.tensor(filled("cotangent", [3, 4], numbers)))
    assert x.grad is not None
    result = {"output": y.detach().numpy(), "gradients": {"input": x.grad.numpy()}}
    return {"shape": [3, 4], "input": "wide", **result}
