"""Saved parameters load as they were, and nothing else loads in their place."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from model import network as net
from model.checkpoint import METADATA_KEY, CheckpointError, from_bytes, to_bytes
from model.presets import PRESETS
from model.spec import TrainSpec

SPEC = PRESETS["quick"].spec
PARAMETERS = net.init(jax.random.key(3), SPEC.network)
DATA = to_bytes(PARAMETERS, SPEC)

Tensors = dict[str, np.ndarray]


def changed(change: Callable[[Tensors], Any], spec: Any = None) -> bytes:
    tensors = safetensors.numpy.load(DATA)
    change(tensors)
    spec = SPEC.model_dump(mode="json") if spec is None else spec
    return safetensors.numpy.save(tensors, metadata={METADATA_KEY: json.dumps({"spec": spec})})


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        from_bytes(data)
    return str(caught.value)


def test_what_is_loaded_equals_what_was_saved_bit_for_bit() -> None:
    spec, parameters = from_bytes(DATA)
    assert spec == SPEC
    jax.tree.map(np.testing.assert_array_equal, parameters, PARAMETERS)


def test_equal_trainings_give_equal_bytes() -> None:
    assert to_bytes(jax.tree.map(np.array, PARAMETERS), TrainSpec.model_validate(SPEC.model_dump())) == DATA


def test_any_safetensors_reader_finds_the_tensors_by_their_layer() -> None:
    assert {name: tensor.shape for name, tensor in safetensors.numpy.load(DATA).items()} == {
        "layers.1.kernel": (784, 256),
        "layers.1.bias": (256,),
        "layers.2.kernel": (256, 256),
        "layers.2.bias": (256,),
        "layers.3.kernel": (256, 10),
        "layers.3.bias": (10,),
    }


@pytest.mark.parametrize("data", [b"", b"PK\3\4 not this", DATA[:-1], DATA[:5000], DATA + b"\0"])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    assert refusal(data).startswith("not a safetensors file")


def test_a_tensor_that_does_not_fit_is_named_by_its_path() -> None:
    missing = changed(lambda tensors: tensors.pop("layers.3.bias"))
    assert refusal(missing) == "layers.3.bias is missing; expected float32[10]"
    extra = changed(lambda tensors: tensors.update({"layers.7.bias": np.zeros(3, np.float32)}))
    assert refusal(extra) == "layers.7.bias float32[3] has no place in the spec's network"
    reshaped = changed(lambda tensors: tensors.update({"layers.3.bias": np.zeros(9, np.float32)}))
    assert refusal(reshaped) == "layers.3.bias is float32[9]; expected float32[10]"
    retyped = changed(lambda tensors: tensors.update({"layers.3.bias": np.zeros(10, np.float64)}))
    assert refusal(retyped) == "layers.3.bias is float64[10]; expected float32[10]"


def test_a_spec_that_is_missing_or_wrong_is_refused() -> None:
    assert "no spec in its metadata" in refusal(safetensors.numpy.save(safetensors.numpy.load(DATA)))
    wrong = {**SPEC.model_dump(mode="json"), "epochs": 0}
    assert "its spec is not valid: epochs:" in refusal(changed(lambda tensors: None, wrong))
