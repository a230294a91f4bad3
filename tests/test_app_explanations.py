"""/predict says why: which pixels spoke for the answer, and what each layer makes of the drawing."""

import asyncio
import base64
import time
from typing import Any

import jax
import numpy as np
import pytest

from app.errors import InvalidInputError
from app.explanations import MAX_ACTIVATIONS, MAX_EXPLAINED_IMAGES, explain
from app.warm_model import WarmModel
from model import network as net
from model.checkpoint import to_bytes
from model.explain import MAX_CHANNELS
from model.spec import TrainSpec
from model.spec_layers import MAX_LAYERS
from tests.drawings import draw, encoded
from tests.problems import problem
from tests.processes import Service

SEVEN = encoded(draw(7))


def explained(service: Service, *include: str, **request: Any) -> dict[str, Any]:
    request = request or {"content": SEVEN, "headers": {"content-type": "image/png"}}
    response = service.http.post("/predict", params={"include": [*include]}, **request)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_saliency_is_a_number_a_pixel_and_silent_where_there_is_no_ink(service: Service) -> None:
    answer = explained(service, "seen", "saliency")
    saliency, seen = np.array(answer["saliency"]), np.array(answer["seen"])
    assert saliency.shape == (28, 28)
    assert np.abs(saliency).max() == 1
    assert not saliency[seen == 0].any()
    assert saliency.sum() > 0, "more speaks for the digit than against it"
    assert "activations" not in answer


def test_activations_are_every_layers_output_in_bytes(service: Service) -> None:
    answer = explained(service, "activations")
    run = service.get(f"/models/{answer['model']}")["run"]
    network = service.get(f"/train/{run}")["spec"]["network"]
    kept = [(place, layer) for place, layer in enumerate(network) if layer["type"] not in ("flatten", "dropout")]
    assert [layer["layer"] for layer in answer["activations"]] == [place for place, _ in kept]
    for layer, (_, spec) in zip(answer["activations"], kept, strict=True):
        values = np.frombuffer(base64.b64decode(layer["values"]), np.uint8).reshape(layer["shape"])
        assert layer["type"] == spec["type"]
        assert layer["size"] == spec["units"] == values.shape[-1]
        assert (values.min(), values.max()) == (0, 255)
    last = answer["activations"][-1]
    assert last["high"] == pytest.approx(max(answer["probabilities"]), abs=0.1)


def test_many_images_are_explained_each(service: Service) -> None:
    images = [base64.b64encode(encoded(draw(digit))).decode() for digit in (4, 7)]
    one, other = explained(service, "saliency", json={"images": images})["predictions"]
    assert one["saliency"] != other["saliency"] == explained(service, "saliency")["saliency"]


def test_more_images_than_can_be_explained_are_refused(service: Service) -> None:
    pixels = np.asarray(draw(7)).tolist()
    too_many = {"images": [pixels] * (MAX_EXPLAINED_IMAGES + 1)}
    for include in ("saliency", "activations"):
        problem(service.http.post("/predict", params={"include": include}, json=too_many), 422, "query", "include")
    assert service.http.post("/predict", params={"include": "seen"}, json=too_many).status_code == 200
    as_many = explained(service, "saliency", json={"images": [pixels] * MAX_EXPLAINED_IMAGES})
    assert len(as_many["predictions"]) == MAX_EXPLAINED_IMAGES


def test_more_activations_than_an_answer_may_have_are_refused() -> None:
    layers = [{"type": "conv2d", "filters": 64, "kernel_size": 1}] + [{"type": "activation", "activation": "relu"}] * 19
    spec = TrainSpec.model_validate(
        {"network": [*layers, {"type": "global_average_pooling2d"}, {"type": "dense", "units": 10}]}
    )
    warm = WarmModel("large", to_bytes(net.init(jax.random.key(0), spec.network), spec), max_batch=1)
    images = [np.asarray(draw(7), np.uint8)[:28, :28]] * 4
    expected = r"^4 images with 1,003,594 activations each; .* one answer, those of 3 images$"
    with pytest.raises(InvalidInputError, match=expected) as refused:
        asyncio.run(explain(warm, images, [], ["activations"], time.monotonic()))
    assert refused.value.loc == ("query", "include")


def test_no_network_has_more_activations_for_one_image_than_an_answer() -> None:
    assert MAX_LAYERS * 28 * 28 * MAX_CHANNELS <= MAX_ACTIVATIONS
