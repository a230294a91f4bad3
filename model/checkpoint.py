"""Parameters to and from safetensors bytes, with spec, confidence and scores of the model that they are.

The metadata is one JSON object: `spec`; `preparation`, what model.drawing did to the pictures that it is for; where
they are known, `scores` on the test set, and of the confidence what is no array. Its arrays are tensors as well.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from model import network as net
from model.inference import Confidence, DigitScale, Gaussians
from model.spec import TrainSpec
from model.spec_layers import CLASSES, IMAGE_SIDE

PREPARATION = "mnist-form-1"  # kept with each model; other bytes out of model.drawing want a new number
# A single one: safetensors writes several in random order, and equal trainings give equal bytes.
METADATA_KEY = "inkling"
_GAUSSIANS = "gaussians"  # the prefix of their tensors
_LEAST_DIVISOR = 1e-6  # fit_confidence finds none below it, and float32 divides by it
_LARGEST = float(np.finfo(np.float32).max)

NumpyParameters = list[dict[str, NDArray[Any]]]


class CheckpointError(ValueError):
    """The bytes are not a network's parameters, or not those of their spec; the message names the tensor."""


class DamagedError(CheckpointError):
    """The bytes are not those that were written."""


def to_bytes(
    parameters: net.NetworkParameters,
    spec: TrainSpec,
    confidence: Confidence | None = None,
    scores: Mapping[str, float] | None = None,
) -> bytes:
    """A safetensors file that depends on these alone; tensors are named layers.<i>.<name>, gaussians.<name>."""
    said: dict[str, Any] = {"spec": spec.model_dump(mode="json"), "preparation": PREPARATION}
    if scores:
        said["scores"] = dict(scores)
    tensors = _named(parameters)
    if confidence:
        said["confidence"] = {"temperature": confidence.temperature, "scale": confidence.scale._asdict()}
        tensors |= {f"{_GAUSSIANS}.{name}": array for name, array in confidence.gaussians._asdict().items()}
    # Row by row: safetensors writes any other order as it lies in memory.
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return safetensors.numpy.save(arrays, metadata={METADATA_KEY: json.dumps(said, sort_keys=True)})


def from_bytes(data: bytes) -> tuple[TrainSpec, NumpyParameters]:
    """The spec and its parameters as NumPy arrays, checked against the shapes that the spec's network has.

    Raises CheckpointError for damaged bytes, a spec that is not valid, a model of pictures that were prepared in
    another way, and a tensor that is missing, left over, or of another shape or dtype.
    """
    tensors = _tensors(data)
    spec = _spec_of(data)
    if (preparation := _metadata(data).get("preparation", PREPARATION)) != PREPARATION:
        raise CheckpointError(f"it is for drawings prepared by {preparation!r}; here they are by {PREPARATION!r}")
    skeleton = jax.eval_shape(lambda key: net.init(key, spec.network), jax.random.key(0))
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{_GAUSSIANS}.")}
    check(own, _named(skeleton))
    return spec, [{name: tensors[_path(index, name)] for name in layer} for index, layer in enumerate(skeleton)]


def confidence_of(data: bytes) -> Confidence | None:
    """What `to_bytes` was given; None in the files of older versions.

    Raises CheckpointError for one that is incomplete, not finite, or of other shapes.
    """
    said = _metadata(data).get("confidence")
    tensors = {name: tensor for name, tensor in _tensors(data).items() if name.startswith(f"{_GAUSSIANS}.")}
    if said is None and not tensors:
        return None
    try:
        said = dict(said or {})
        temperature = float(said["temperature"])
        scale = DigitScale(**{name: float(value) for name, value in said["scale"].items()})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise CheckpointError("its confidence is not valid: expected a temperature and a scale") from None
    divisors = (temperature, scale.energy_spread, scale.likelihood_spread)
    if not all(abs(number) <= _LARGEST for number in (temperature, *scale)) or min(divisors) < _LEAST_DIVISOR:
        raise CheckpointError(
            f"its confidence is not valid: expected float32 numbers, temperature and spreads from {_LEAST_DIVISOR}"
        )
    return Confidence(temperature, _gaussians(tensors), scale)


def _gaussians(tensors: dict[str, NDArray[Any]]) -> Gaussians:
    """Checked, for a file may come from anywhere."""
    projection, determinants = (tensors.get(f"{_GAUSSIANS}.{name}") for name in ("projection", "log_determinants"))
    components = max(1, projection.shape[-1]) if projection is not None and projection.ndim else 1
    groups = max(CLASSES + 1, determinants.size if determinants is not None else 0)
    shapes = {
        "projection": (IMAGE_SIDE**2, components),
        "whitening": (components, groups * components),
        "offsets": (groups * components,),
        "log_determinants": (groups,),
    }
    check(tensors, {f"{_GAUSSIANS}.{name}": jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()})
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{name} is not finite")
    return Gaussians(**{name: tensors[f"{_GAUSSIANS}.{name}"] for name in shapes})


def _tensors(data: bytes) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"not a safetensors file: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"it has a tensor of dtype {error}; expected float32") from None


def _path(index: int, name: str) -> str:
    return f"layers.{index}.{name}"


def _named(parameters: net.NetworkParameters) -> dict[str, Any]:
    return {_path(index, name): value for index, layer in enumerate(parameters) for name, value in layer.items()}


def _spec_of(data: bytes) -> TrainSpec:
    try:
        return TrainSpec.model_validate(_metadata(data)["spec"])
    except KeyError:
        raise CheckpointError(f"no spec in its metadata; expected it under {METADATA_KEY!r}") from None
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(("spec", *map(str, first["loc"])))
        raise CheckpointError(f"its spec is not valid: {path}: {first['msg']}") from None


def _metadata(data: bytes) -> dict[str, Any]:
    """Empty where there is none of ours."""
    try:
        return dict(json.loads(metadata_of(data)[METADATA_KEY]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def metadata_of(data: bytes) -> dict[str, str]:
    """safetensors hands out metadata for files only; in bytes, its header is JSON behind its length in 8 bytes."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__", {}))


def check(tensors: dict[str, NDArray[Any]], skeleton: dict[str, Any]) -> None:
    """Raises CheckpointError unless there is a tensor of the same shape and dtype for each name, and no other."""
    for name in sorted(tensors.keys() | skeleton.keys()):
        if name not in tensors:
            raise CheckpointError(f"{name} is missing; expected {_form(skeleton[name])}")
        if name not in skeleton:
            raise CheckpointError(f"{name} {_form(tensors[name])} has no place in the spec's network")
        if _form(tensors[name]) != _form(skeleton[name]):
            raise CheckpointError(f"{name} is {_form(tensors[name])}; expected {_form(skeleton[name])}")


def _form(tensor: Any) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}"
