"""/v2 speaks the Open Inference Protocol: to Triton's own client, and to whoever sends it nonsense."""

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from app.errors import InklingError
from app.tensors import read_images, read_request
from model.drawing import from_image
from tests.drawings import STROKES, draw, encoded
from tests.problems import problem
from tests.processes import SMALL_SPEC, Service, serving, wait_for

DIGITS = tuple(STROKES)
FILES = [encoded(draw(digit)) for digit in DIGITS]
IMAGES = np.stack([from_image(file) for file in FILES])  # [3, 28, 28]
OUTPUTS = {"probabilities": np.float32, "digit": np.int64, "is_digit": np.bool_, "digit_score": np.float32}
INFER = "/v2/models/default/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.url.removeprefix("http://").rstrip("/")) as client:
        yield client


@pytest.fixture
def default(service: Service) -> str:
    return str(service.get("/readyz")["model"])


@pytest.fixture(scope="module")
def other(service: Service) -> str:
    """A model beside the default."""
    return str(service.ended(service.train(**SMALL_SPEC))["model"])


def tensor(array: NDArray[Any], datatype: str = "UINT8", **how: Any) -> triton.InferInput:
    return triton.InferInput("image", list(array.shape), datatype).set_data_from_numpy(array, **how)


def files(*contents: bytes) -> NDArray[Any]:
    return np.array([*contents, None], np.object_)[:-1]  # None: or NumPy would make fixed-length bytes of them


def request(**fields: Any) -> dict[str, Any]:
    """What POST …/infer takes, one seven of pixels; `image`: other members of its tensor."""
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 784], "data": IMAGES[2].ravel().tolist()}
    return {"inputs": [{**image, **fields.pop("image", {})}], **fields}


def test_a_picture_without_ink_is_no_digit(client: triton.InferenceServerClient) -> None:
    images = np.stack([np.zeros((28, 28), np.uint8), IMAGES[0]])
    assert client.infer("default", [tensor(images)]).as_numpy("is_digit").tolist() == [False, True]


def test_a_client_learns_what_is_served(client: triton.InferenceServerClient, default: str) -> None:
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert (server["name"], server["extensions"]) == ("inkling", ["binary_tensor_data"])
    assert client.is_model_ready("default") and client.is_model_ready("default", default)
    for name, version in (("default", ""), ("default", default), (default, ""), (default, default)):
        metadata = client.get_model_metadata(name, version)
        assert (metadata["name"], metadata["versions"]) == (name, [default])
        assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
        assert [output["name"] for output in metadata["outputs"]] == list(OUTPUTS)


def test_a_client_has_digits_named_in_its_default_way(client: triton.InferenceServerClient, default: str) -> None:
    result = client.infer("default", [tensor(IMAGES)], request_id="42")
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("default", default, "42")
    for name, dtype in OUTPUTS.items():
        assert result.as_numpy(name).dtype == dtype
        assert len(result.as_numpy(name)) == 3
        assert "binary_data_size" in result.get_output(name)["parameters"]
    assert tuple(result.as_numpy("digit")) == DIGITS
    assert result.as_numpy("probabilities").shape == (3, 10)
    assert result.as_numpy("probabilities").sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (result.as_numpy("is_digit") == (result.as_numpy("digit_score") >= 0)).all()


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 784), (3, 1, 28, 28)])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_form_of_the_same_images_gives_the_same_answer(
    client: triton.InferenceServerClient, shape: tuple[int, ...], datatype: str, binary: bool
) -> None:
    array = IMAGES.reshape(shape).astype(np.uint8 if datatype == "UINT8" else np.float32)
    result = client.infer("default", [tensor(array, datatype, binary_data=binary)])
    expected = client.infer("default", [tensor(IMAGES)]).as_numpy("probabilities")
    assert result.as_numpy("probabilities") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_image_files_are_prepared_as_those_of_predict(
    client: triton.InferenceServerClient, service: Service, shape: tuple[int, ...]
) -> None:
    result = client.infer("default", [tensor(files(*FILES).reshape(shape), "BYTES")])
    texts = files(*(base64.b64encode(file) for file in FILES)).reshape(shape)
    of_texts = client.infer("default", [tensor(texts, "BYTES", binary_data=False)])
    for index, file in enumerate(FILES):
        predicted = service.http.post("/predict", content=file, headers={"content-type": "image/png"}).json()
        for answer in (result, of_texts):
            assert answer.as_numpy("probabilities")[index] == pytest.approx(predicted["probabilities"], abs=1e-5)
            assert answer.as_numpy("is_digit")[index] == predicted["is_digit"]
            assert answer.as_numpy("digit_score")[index] == pytest.approx(predicted["digit_score"], abs=1e-3)


def test_only_the_outputs_asked_for_come_and_in_the_form_asked_for(client: triton.InferenceServerClient) -> None:
    wanted = [
        triton.InferRequestedOutput("digit", binary_data=False),
        triton.InferRequestedOutput("probabilities", binary_data=True),
    ]
    result = client.infer("default", [tensor(IMAGES)], outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["digit", "probabilities"]
    assert result.get_output("digit") == {
        "name": "digit",
        "datatype": "INT64",
        "shape": [3],
        "data": list(DIGITS),
    }
    assert "data" not in result.get_output("probabilities")
    assert tuple(result.as_numpy("probabilities").argmax(axis=1)) == DIGITS


def test_plain_json_is_answered_in_plain_json(service: Service, default: str) -> None:
    response = service.http.post(INFER, json=request(parameters={"priority": 1, "mine": "yes"}))
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    answer = response.json()
    assert set(answer) == {"model_name", "model_version", "outputs"}
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["digit"] == {"name": "digit", "datatype": "INT64", "shape": [1], "data": [7]}
    assert outputs["is_digit"]["data"] == [True]
    assert outputs["probabilities"]["shape"] == [1, 10]
    assert sum(outputs["probabilities"]["data"]) == pytest.approx(1, abs=1e-5)


def test_a_model_is_asked_by_id_and_by_version(client: triton.InferenceServerClient, default: str, other: str) -> None:
    for name, version, answering in (
        ("default", "", default),
        ("default", other, other),
        (other, "", other),
        (other, other, other),
    ):
        assert client.is_model_ready(name, version)
        answer = client.infer(name, [tensor(IMAGES)], model_version=version).get_response()
        assert (answer["model_name"], answer["model_version"]) == (name, answering)
    for name, version, says in (
        ("nothing", "", "there is no model or alias 'nothing'"),
        ("default", "1", "'default' has no version '1'"),
        ("default", "default", "'default' has no version 'default'"),
        (other, default, f"'{other}' has no version '{default}'"),
    ):
        assert not client.is_model_ready(name, version)
        with pytest.raises(InferenceServerException, match=says):
            client.infer(name, [tensor(IMAGES)], model_version=version)


def test_default_takes_part_in_a_trial_and_a_version_does_not(
    client: triton.InferenceServerClient, service: Service, default: str, other: str
) -> None:
    def version(**asked: str) -> str:
        return str(client.infer("default", [tensor(IMAGES)], **asked).get_response()["model_version"])

    try:
        tried = service.http.put("/models/candidate", json={"model": other, "share": 1.0})
        assert tried.status_code == 200, tried.text
        assert (version(), version(model_version=default)) == (other, default)
        wait_for(lambda: service.get("/models/candidate")["compared"] == 3)
    finally:
        service.http.put("/models/candidate", json={"model": None})
    assert version() == default


def test_a_client_reads_what_was_wrong(client: triton.InferenceServerClient) -> None:
    for array, datatype in ((IMAGES[:, :14], "UINT8"), (IMAGES.astype(np.int64), "INT64")):
        with pytest.raises(InferenceServerException, match=r"expected \[N, 28, 28\]|datatype") as error:
            client.infer("default", [tensor(array, datatype)])
        assert error.value.status() == "422"


INPUT = ("body", "inputs", 0)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        pytest.param("", ("body",), id="empty"),
        pytest.param("{", ("body",), id="half"),
        pytest.param("[" * 100_000, ("body",), id="nested"),
        pytest.param("[]", ("body",), id="list"),
        pytest.param("{}", ("body", "inputs"), id="no inputs"),
        pytest.param({"inputs": []}, ("body", "inputs"), id="empty inputs"),
        pytest.param({"inputs": request()["inputs"] * 2}, ("body", "inputs"), id="two inputs"),
        pytest.param({"inputs": [7] * 1_000_000}, INPUT, id="a million inputs"),
        pytest.param(request(image={"name": "picture"}), (*INPUT, "name"), id="another input"),
        pytest.param(request(image={"datatype": "FP16"}), (*INPUT, "datatype"), id="another datatype"),
        pytest.param(request(image={"shape": [28, 28]}), (*INPUT, "shape"), id="one image without N"),
        pytest.param(request(image={"shape": []}), (*INPUT, "shape"), id="no shape"),
        pytest.param(request(image={"shape": [-1, 784]}), (*INPUT, "shape"), id="N = -1"),
        pytest.param(request(image={"shape": [0, 784], "data": []}), (*INPUT, "shape"), id="no image"),
        pytest.param(request(image={"shape": [257, 784]}), (*INPUT, "shape"), id="257 images"),
        pytest.param(request(image={"shape": [10**30, 784]}), (*INPUT, "shape"), id="10³⁰ images"),
        pytest.param(request(image={"shape": [2, 784]}), (*INPUT, "data"), id="another shape than data"),
        pytest.param(request(image={"data": None}), INPUT, id="no data"),
        pytest.param(request(image={"data": []}), (*INPUT, "data"), id="empty data"),
        pytest.param(request(image={"data": [[[]]]}), (*INPUT, "data"), id="empty nested data"),
        pytest.param(request(image={"data": ["7"] * 784}), (*INPUT, "data"), id="texts"),
        pytest.param(request(image={"data": [True] * 784}), (*INPUT, "data"), id="booleans"),
        pytest.param(request(image={"data": [[7], 7] * 392}), (*INPUT, "data"), id="half nested"),
        pytest.param(request(image={"data": [0.5] * 784}), (*INPUT, "data"), id="fractions"),
        pytest.param(request(image={"data": [256] * 784}), (*INPUT, "data"), id="256"),
        pytest.param(request(image={"data": [-1] * 784}), (*INPUT, "data"), id="-1"),
        pytest.param(request(image={"data": [10**400] * 784}), (*INPUT, "data"), id="10⁴⁰⁰"),
        pytest.param(request(image={"datatype": "FP32", "data": [float("nan")] * 784}), (*INPUT, "data"), id="NaN"),
        pytest.param(request(image={"datatype": "FP32", "data": [1e300] * 784}), (*INPUT, "data"), id="1e300"),
        pytest.param(request(image={"datatype": "FP32", "data": [0.7] * 784}), (*INPUT, "data"), id="0 to 1"),
        pytest.param(request(image={"datatype": "BYTES"}), (*INPUT, "shape"), id="files in an image's shape"),
        pytest.param(request(image={"datatype": "BYTES", "shape": [1]}), (*INPUT, "data"), id="numbers for files"),
        pytest.param(
            request(image={"datatype": "BYTES", "shape": [1], "data": ["%"]}), (*INPUT, "data"), id="not base64"
        ),
        pytest.param(
            request(image={"datatype": "BYTES", "shape": [1], "data": ["AAAA"]}),
            (*INPUT, "data", 0),
            id="no image file",
        ),
        pytest.param(
            request(image={"parameters": {"binary_data_size": 784}, "data": None}),
            (*INPUT, "parameters", "binary_data_size"),
            id="announced bytes that are not there",
        ),
        pytest.param(
            request(image={"parameters": {"binary_data_size": -1}}),
            (*INPUT, "parameters", "binary_data_size"),
            id="negative size",
        ),
        pytest.param(request(outputs=[{"name": "letter"}]), ("body", "outputs", 0, "name"), id="unknown output"),
        pytest.param(request(outputs=[{"name": "digit"}] * 5), ("body", "outputs"), id="five outputs"),
        pytest.param(request(id=7), ("body", "id"), id="a number for an id"),
    ],
)
def test_json_that_is_no_request_is_refused(service: Service, body: Any, loc: tuple[str | int, ...]) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    response = service.http.post(INFER, content=content, headers={"content-type": "application/json"})
    problem(response, 422, *loc)
    assert len(response.content) < 10_000


def binary_request(blob: bytes, **image: Any) -> tuple[bytes, int]:
    """A request with its image behind the JSON, and the JSON's length."""
    image = {"data": None, "parameters": {"binary_data_size": len(blob)}, **image}
    header = json.dumps(request(image=image)).encode()
    return header + blob, len(header)


SIZE = (*INPUT, "parameters", "binary_data_size")
FILE = len(FILES[0]).to_bytes(4, "little") + FILES[0]
ONE_FILE: dict[str, Any] = {"datatype": "BYTES", "shape": [1]}


@pytest.mark.parametrize(
    ("blob", "image", "loc"),
    [
        pytest.param(bytes(783), {}, SIZE, id="one short"),
        pytest.param(bytes(784), {"parameters": {"binary_data_size": 785}}, SIZE, id="truncated"),
        pytest.param(bytes(785), {"parameters": {"binary_data_size": 784}}, SIZE, id="one over"),
        pytest.param(bytes(784), {"datatype": "FP32"}, SIZE, id="a quarter"),
        pytest.param(np.full(784, np.nan, "<f4").tobytes(), {"datatype": "FP32"}, (*INPUT, "data"), id="NaN"),
        pytest.param(bytes(784), {"data": [0] * 784}, INPUT, id="both"),
        pytest.param(bytes(784), {"parameters": {}}, INPUT, id="neither"),
        pytest.param(FILE[:-1], ONE_FILE, SIZE, id="a file cut off"),
        pytest.param(FILE[:3], ONE_FILE, SIZE, id="a length cut off"),
        pytest.param(b"\xff\xff\xff\xff", ONE_FILE, SIZE, id="4 GB announced"),
        pytest.param(FILE + FILE, ONE_FILE, (*INPUT, "data"), id="two files for one"),
        pytest.param(bytes(4), ONE_FILE, (*INPUT, "data", 0), id="an empty file"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(
    service: Service, blob: bytes, image: dict[str, Any], loc: tuple[str | int, ...]
) -> None:
    content, length = binary_request(blob, **image)
    problem(service.http.post(INFER, content=content, headers={LENGTH: str(length)}), 422, *loc)


@pytest.mark.parametrize("length", ["-1", "many", "1e9", "999999"])
def test_a_wrong_length_of_the_json_is_refused(service: Service, length: str) -> None:
    content, _ = binary_request(IMAGES[0].tobytes())
    problem(service.http.post(INFER, content=content, headers={LENGTH: length}), 422, "header", LENGTH)


def test_a_length_that_cuts_the_json_is_refused(service: Service) -> None:
    content, length = binary_request(IMAGES[0].tobytes())
    for wrong in (0, length - 1, length + 1):
        problem(service.http.post(INFER, content=content, headers={LENGTH: str(wrong)}), 422, "body")
    problem(service.http.post(INFER, content=content), 422, "body")


def test_null_is_as_good_as_nothing() -> None:
    output: dict[str, Any] = {"name": "digit"}
    whole = request(image={"parameters": {}}, outputs=[output])
    nulls = request(image={"parameters": None}, outputs=[{**output, "parameters": None}], id=None, parameters=None)
    asked, without = (read_request(json.dumps(body).encode(), None)[0] for body in (nulls, whole))
    assert asked == without
    assert read_request(json.dumps(request(outputs=None)).encode(), None)[0].wanted() == dict.fromkeys(OUTPUTS, False)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.just("image"), "datatype": st.sampled_from(["UINT8", "FP32", "BYTES"])},
    optional={
        "shape": st.lists(st.integers(-1, 3) | st.sampled_from([28, 784]), max_size=4) | JSON_VALUES,
        "data": st.lists(JSON_VALUES, max_size=4) | JSON_VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 800) | JSON_VALUES}),
    },
)


@given(
    tensor=TENSORS | JSON_VALUES,
    blob=st.binary(max_size=16) | st.just(bytes(784)),
    cut=st.none() | st.integers(-2, 2),
    other=st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), JSON_VALUES),
)
@settings(deadline=None, derandomize=True, max_examples=500)
def test_whatever_is_sent_is_images_or_an_error_that_says_why(
    tensor: Any, blob: bytes, cut: int | None, other: dict[str, Any]
) -> None:
    header = json.dumps({"inputs": [tensor], **other}).encode()
    with contextlib.suppress(InklingError, RequestValidationError):
        asked, binary = read_request(header + blob, None if cut is None else max(0, len(header) + cut))
        images = read_images(asked.inputs[0], binary, max_images=4)
        assert isinstance(images, list) or images.shape[1:] == (28, 28)


def test_a_server_without_a_model_is_live_and_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path, "api") as service:
        problem(service.http.get("/v2/models/default/ready"), 503)
        with triton.InferenceServerClient(service.url.removeprefix("http://").rstrip("/")) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            with pytest.raises(InferenceServerException, match="no model is ready yet"):
                client.infer("default", [tensor(IMAGES)])


def test_other_requests_that_are_wrong_speak_the_protocol_too(service: Service) -> None:
    problem(service.http.get(INFER), 405)
    problem(service.http.post("/v2"), 405)
    problem(service.http.get("/v2/nowhere"), 404)
    problem(service.http.get("/v2/models/nothing"), 404)
    problem(service.http.post(INFER, content=bytes(9_000_000)), 413, "body")
    compressed = service.http.post(INFER, json=request(), headers={"content-encoding": "gzip"})
    problem(compressed, 415, "header", "content-encoding")
    problem(service.http.get("/nowhere"), 404)
