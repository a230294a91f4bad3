"""Parameters to and from safetensors bytes, with the spec that they belong to in the metadata."""

import json
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from model import network as net
from model.spec import TrainSpec

# A single one: safetensors writes several in random order, and equal trainings give equal bytes.
METADATA_KEY = "inkling"


NumpyParameters = list[dict[str, NDArray[Any]]]


class CheckpointError(ValueError):
    """The bytes are not a network's parameters, or not those of their spec; the message names the tensor."""


class DamagedError(CheckpointError):
    """The bytes are not those that were written."""


def to_bytes(parameters: net.NetworkParameters, spec: TrainSpec) -> bytes:
    """A safetensors file that depends on the parameters and the spec alone; tensors are named layers.<i>.<name>."""
    metadata = {METADATA_KEY: json.dumps({"spec": spec.model_dump(mode="json")}, sort_keys=True)}
    tensors = {name: np.asarray(tensor) for name, tensor in _named(parameters).items()}
    return safetensors.numpy.save(tensors, metadata=metadata)


def from_bytes(data: bytes) -> tuple[TrainSpec, NumpyParameters]:
    """The spec and its parameters as NumPy arrays, checked against the shapes that the spec's network has.

    Raises CheckpointError for damaged bytes, a spec that is not valid, and a tensor that is missing, left over, or of
    another shape or dtype.
    """
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"not a safetensors file: {error}") from None
    spec = _spec_of(data)
    skeleton = jax.eval_shape(lambda key: net.init(key, spec.network), jax.random.key(0))
    check(tensors, _named(skeleton))
    return spec, [{name: tensors[_path(index, name)] for name in layer} for index, layer in enumerate(skeleton)]


def _path(index: int, name: str) -> str:
    return f"layers.{index}.{name}"


def _named(parameters: net.NetworkParameters) -> dict[str, Any]:
    return {_path(index, name): value for index, layer in enumerate(parameters) for name, value in layer.items()}


def _spec_of(data: bytes) -> TrainSpec:
    try:
        return TrainSpec.model_validate(json.loads(metadata_of(data)[METADATA_KEY])["spec"])
    except (KeyError, TypeError, json.JSONDecodeError):
        raise CheckpointError(f"no spec in its metadata; expected it under {METADATA_KEY!r}") from None
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"its spec is not valid: {path}: {first['msg']}") from None


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
