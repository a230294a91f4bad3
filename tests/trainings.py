"""A training of a second, for tests that look at what a training does, and any training that nothing disturbs."""

from typing import Any

from model.data import Mnist
from model.finish import finished
from model.reports import FitResult
from model.spec import TrainSpec
from model.train import fit

FLATTEN = {"type": "flatten"}
SMALL = [
    FLATTEN,
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
]


def small_spec(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"network": SMALL, "batch_size": 100, "epochs": 2, **fields})


def undisturbed(spec: TrainSpec, mnist: Mnist) -> bytes:
    """The file of a training in this process, as the service publishes it wherever and however often it was stopped."""
    (result,) = (report for report in fit(spec, mnist.train) if isinstance(report, FitResult))
    return finished(result.parameters, spec, mnist).data
