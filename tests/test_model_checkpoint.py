"""Saved parameters load as they were, and nothing else loads in their place."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from model import network as net
from model.checkpoint import (
    METADATA_KEY,
    PREPARATION,
    CheckpointError,
    confidence_of,
    from_bytes,
    metadata_of,
    to_bytes,
)
from model.inference import Confidence, DigitScale, Gaussians
from model.presets import PRESETS
from model.spec import TrainSpec

SPEC = PRESETS["quick"].spec
PARAMETERS = net.init(jax.random.key(3), SPEC.network)
DATA = to_bytes(PARAMETERS, SPEC)

Tensors = dict[str, np.ndarray]


CONFIDENCE = Confidence(
    1.25,
    Gaussians(*(np.full(shape, 0.5, np.float32) for shape in ((784, 2), (2, 24), 24, 12))),
    DigitScale(10.0, 2.0, 50.0, 20.0, threshold=-3.0),
)
SCORES = {"loss": 0.05, "accuracy": 0.98}
SERVED = to_bytes(PARAMETERS, SPEC, CONFIDENCE, SCORES)


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
    assert "its spec is not valid: spec.epochs:" in refusal(changed(lambda tensors: None, wrong))


def test_confidence_and_scores_are_in_the_file() -> None:
    found = confidence_of(SERVED)
    assert found and (found.temperature, found.scale) == (CONFIDENCE.temperature, CONFIDENCE.scale)
    jax.tree.map(np.testing.assert_array_equal, found.gaussians, CONFIDENCE.gaussians)
    jax.tree.map(np.testing.assert_array_equal, from_bytes(SERVED)[1], PARAMETERS)
    said = json.loads(metadata_of(SERVED)[METADATA_KEY])
    assert (said["scores"], said["preparation"]) == (SCORES, PREPARATION)


def test_arrays_come_back_however_they_lay_in_memory() -> None:
    whitening = np.asfortranarray(np.arange(48, dtype=np.float32).reshape(2, 24))
    confidence = CONFIDENCE._replace(gaussians=CONFIDENCE.gaussians._replace(whitening=whitening))
    found = confidence_of(to_bytes(PARAMETERS, SPEC, confidence))
    assert found
    np.testing.assert_array_equal(found.gaussians.whitening, whitening)


def test_a_file_of_an_older_version_has_no_confidence() -> None:
    older = changed(lambda tensors: None)
    assert from_bytes(older)[0] == SPEC
    assert confidence_of(older) is None
    assert confidence_of(DATA) is None


def test_a_model_for_another_preparation_is_refused() -> None:
    assert refusal(said(preparation="centred-2")) == (
        f"it is for drawings prepared by 'centred-2'; here they are by '{PREPARATION}'"
    )


@pytest.mark.parametrize(
    "confidence",
    [
        *(None, "sure", {"temperature": 1.0}, {"temperature": 1.0, "scale": {"threshold": 0.0}}),
        *("[" * 100, {"temperature": 1.0, "scale": {**CONFIDENCE.scale._asdict(), "threshold": "low"}}),
    ],
)
def test_a_confidence_that_is_not_valid_is_refused(confidence: Any) -> None:
    with pytest.raises(CheckpointError, match="its confidence is not valid"):
        confidence_of(said(confidence=confidence))


@pytest.mark.parametrize("number", [0.0, -1.0, 1e-300, 1e-40, 1e300, 10**400, float("nan"), float("inf")])
def test_a_confidence_that_float32_cannot_divide_by_is_refused(number: float) -> None:
    scale = CONFIDENCE.scale._asdict()
    for temperature, spread in ((number, 1.0), (1.0, number)):
        confidence = {"temperature": temperature, "scale": {**scale, "energy_spread": spread}}
        with pytest.raises(CheckpointError, match="its confidence is not valid"):
            confidence_of(said(confidence=confidence))


def test_gaussians_that_do_not_fit_are_named_by_their_path() -> None:
    tensors = safetensors.numpy.load(SERVED)
    metadata = metadata_of(SERVED)
    for name, tensor, message in [
        ("offsets", np.zeros(23, np.float32), "gaussians.offsets is float32[23]; expected float32[24]"),
        ("log_determinants", np.full(12, np.nan, np.float32), "gaussians.log_determinants is not finite"),
        (
            "projection",
            np.zeros((10, 2), np.float32),
            "gaussians.projection is float32[10, 2]; expected float32[784, 2]",
        ),
    ]:
        with pytest.raises(CheckpointError) as caught:
            confidence_of(safetensors.numpy.save({**tensors, f"gaussians.{name}": tensor}, metadata=metadata))
        assert str(caught.value) == message


def test_gaussians_of_no_components_are_refused() -> None:
    shapes = {"projection": (784, 0), "whitening": (0, 0), "offsets": (0,), "log_determinants": (12,)}
    tensors = {f"gaussians.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    data = safetensors.numpy.save({**safetensors.numpy.load(DATA), **tensors}, metadata=metadata_of(SERVED))
    with pytest.raises(CheckpointError, match=r"gaussians.offsets is float32\[0\]; expected float32\[12\]"):
        confidence_of(data)


def test_a_header_that_no_reader_here_understands_is_refused() -> None:
    size = int.from_bytes(DATA[:8], "little")
    header = json.loads(DATA[8 : 8 + size])

    def with_header(**fields: Any) -> bytes:
        text = json.dumps({**header, **fields}).encode()
        return len(text).to_bytes(8, "little") + text + DATA[8 + size :]

    assert from_bytes(with_header())[0] == SPEC
    two_bytes = {**header["layers.3.bias"], "dtype": "BF16", "shape": [20]}
    assert refusal(with_header(**{"layers.3.bias": two_bytes})) == "it has a tensor of dtype 'BF16'; expected float32"
    deep = with_header(__metadata__={METADATA_KEY: "[" * 100_000})
    assert "no spec in its metadata" in refusal(deep)
    assert confidence_of(deep) is None


def said(**fields: Any) -> bytes:
    """SERVED with other words in its metadata."""
    words = {**json.loads(metadata_of(SERVED)[METADATA_KEY]), **fields}
    return safetensors.numpy.save(safetensors.numpy.load(SERVED), metadata={METADATA_KEY: json.dumps(words)})
