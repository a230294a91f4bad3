"""A training of a second, for tests that look at what a training does."""

from typing import Any

from model.spec import TrainSpec

FLATTEN = {"type": "flatten"}
SMALL = [
    FLATTEN,
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]


def small_spec(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"network": SMALL, "batch_size": 100, "epochs": 2, **fields})
