"""Bad input gets a 4xx problem that names the field, and the service goes on answering."""

import base64
import re
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.routes.models import FILE_TYPE
from tests.drawings import draw, encoded
from tests.models import FIRST_RUN
from tests.png import png
from tests.problems import problem
from tests.processes import SOON_SECONDS, Service, serving, wait_for

SEVEN = encoded(draw(7))
NOISE = np.random.default_rng(0).bytes(10_000_000)
RATE = ("body", "optimizer", "learning_rate")


@pytest.fixture(autouse=True)
def _still_answers(service: Service) -> Any:
    yield
    response = service.http.post("/predict", content=SEVEN, headers={"content-type": "image/png"})
    assert response.json()["digit"] == 7


def test_a_head_of_megabytes_ends_its_connection(service: Service) -> None:
    with pytest.raises(httpx2.TransportError):
        service.http.get("/healthz", headers={"X-Large": "x" * 20_000_000})


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        pytest.param(b"", 422, "PNG, JPEG or WebP", id="0 bytes"),
        pytest.param(b"this is not a picture", 422, "PNG, JPEG or WebP", id="text named png"),
        pytest.param(SEVEN[: len(SEVEN) // 2], 422, "damaged or incomplete", id="truncated"),
        pytest.param(png(30_000, 30_000), 413, "30000 x 30000 pixels", id="30,000 × 30,000"),
        pytest.param(encoded(Image.new("L", (280, 280), 255)), 422, "nothing is drawn", id="blank"),
        pytest.param(encoded(Image.new("RGBA", (280, 280), (0, 0, 0, 0))), 422, "nothing is drawn", id="transparent"),
        pytest.param(NOISE[:1_000_000], 422, "PNG, JPEG or WebP", id="1 MB of noise"),
    ],
)
def test_a_file_that_is_no_drawing_is_refused(service: Service, content: bytes, status: int, says: str) -> None:
    raw = service.http.post("/predict", content=content, headers={"content-type": "image/png"})
    assert says in problem(raw, status, "body", "image")
    form = service.http.post("/predict", files={"image": ("7.png", content, "image/png")})
    assert says in problem(form, status, "body", "image")
    text = base64.b64encode(content).decode()
    assert says in problem(service.http.post("/predict", json={"image": text}), status, "body", "image")
    many = [base64.b64encode(SEVEN).decode(), text]
    assert says in problem(service.http.post("/predict", json={"images": many}), status, "body", "images", 1)


def test_10_mb_of_noise_are_refused_by_size(service: Service) -> None:
    for headers in ({"content-type": "image/png"}, {"content-type": "application/json"}):
        problem(service.http.post("/predict", content=NOISE, headers=headers), 413, "body")
    problem(service.http.post("/predict", files={"image": ("7.png", NOISE, "image/png")}), 413, "body")
    problem(service.http.post("/train", content=NOISE, headers={"content-type": "application/json"}), 413, "body")


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        pytest.param("", ("body",), id="empty"),
        pytest.param("{", ("body",), id="half"),
        pytest.param("[" * 100_000, ("body",), id="nested"),
        pytest.param("[]", ("body",), id="list"),
        pytest.param("{}", ("body",), id="nothing given"),
        pytest.param('{"image": 7}', ("body", "image"), id="number"),
        pytest.param('{"image": "%%%"}', ("body", "image"), id="not base64"),
        pytest.param('{"image": "data:image/png;base64,AAA"}', ("body", "image"), id="half base64"),
        pytest.param('{"image": "", "pixels": [[0]]}', ("body",), id="two given"),
        pytest.param('{"image": "é"}', ("body", "image"), id="not ASCII"),
        pytest.param('{"picture": ""}', ("body", "picture"), id="unknown field"),
        pytest.param('{"pixels": [[0, NaN], [0, 0]]}', ("body", "pixels", 0, 1), id="NaN"),
        pytest.param('{"pixels": [[0, Infinity], [0, 0]]}', ("body", "pixels", 0, 1), id="infinity"),
        pytest.param('{"pixels": [[0, 1e999], [0, 0]]}', ("body", "pixels", 0, 1), id="1e999"),
        pytest.param('{"pixels": [[0, 256, 0], [0, 0, 0], [0, 0, 0]]}', ("body", "pixels"), id="256"),
        pytest.param('{"pixels": [["0", "255"], [0, 0]]}', ("body", "pixels", 0, 0), id="text"),
        pytest.param('{"pixels": [[0, true, 0], [0, 0, 0], [0, 0, 0]]}', ("body", "pixels", 0, 1), id="true"),
        pytest.param('{"pixels": [[0, 0], [0]]}', ("body", "pixels"), id="ragged"),
        pytest.param('{"pixels": []}', ("body", "pixels"), id="no rows"),
        pytest.param('{"pixels": [[]]}', ("body", "pixels"), id="empty row"),
        pytest.param('{"pixels": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]}', ("body", "pixels"), id="blank pixels"),
        pytest.param('{"images": []}', ("body", "images"), id="no images"),
        pytest.param('{"images": [[[0]], "%"]}', ("body", "images", 1), id="second is bad"),
        pytest.param('{"images": [' + ",".join(['""'] * 257) + "]}", ("body", "images"), id="257 images"),
    ],
)
def test_json_that_holds_no_drawing_is_refused(service: Service, body: str, loc: tuple[str | int, ...]) -> None:
    response = service.http.post("/predict", content=body, headers={"content-type": "application/json"})
    problem(response, 422, *loc)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        pytest.param('{"pixels": [[' + ",".join(['"a"'] * 1_000_000) + "]]}", ("pixels", 0, 0), id="bad numbers"),
        pytest.param('{"pixels": [' + ",".join(['["a"]'] * 800_000) + "]}", ("pixels", 0, 0), id="bad rows"),
        pytest.param('{"images": [' + ",".join(["7"] * 1_000_000) + "]}", ("images", 0, "str"), id="bad images"),
        pytest.param("{" + ",".join(f'"{name}":0' for name in range(500_000)) + "}", (), id="unknown fields"),
    ],
)
def test_a_million_mistakes_are_refused_as_soon_as_one(service: Service, body: str, loc: tuple[str | int, ...]) -> None:
    response = service.http.post(
        "/predict", content=body, headers={"content-type": "application/json"}, timeout=SOON_SECONDS
    )
    problem(response, 422, "body", *loc)
    assert len(response.content) < 10_000


def test_a_spec_of_megabytes_is_refused_by_size(service: Service) -> None:
    fields = {str(name): 0 for name in range(20_000)}
    problem(service.http.post("/train", json=fields), 413, "body")
    problem(service.http.put("/models/default", json=fields), 413, "body")


def test_what_was_sent_is_not_echoed(service: Service) -> None:
    secret = "s" * 30_000
    for body in ({secret: 1}, {"network": [{"type": secret}]}, {"optimizer": {"type": secret}}, {"preset": secret}):
        response = service.http.post("/train", json=body)
        problem(response, 422)
        assert "s" * 101 not in response.text


def test_beside_an_unknown_field_those_that_there_are_are_named(service: Service) -> None:
    for path, body, field, known in (
        ("/models/default", {"label": "mine"}, "label", "name, description"),
        ("/predict", {"picture": ""}, "picture", "image, pixels, images"),
    ):
        response = service.http.request("PATCH" if "models" in path else "POST", path, json=body)
        says = f"body.{field}: there is no such field here; there are {known}"
        assert problem(response, 422, "body", field) == says


def test_a_form_without_the_image_is_refused(service: Service) -> None:
    problem(service.http.post("/predict", files={"picture": ("7.png", SEVEN)}), 422, "body", "image")
    problem(service.http.post("/predict", data={"image": "text"}, files={}), 415)
    nameless = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n7\r\n--x--\r\n'
    named = {"content-type": "multipart/form-data; boundary=x"}
    assert "has no filename" in problem(
        service.http.post("/predict", content=nameless, headers=named), 422, "body", "image"
    )
    twice = [("image", ("7.png", SEVEN)), ("image", ("8.png", SEVEN))]
    assert "one 'image'" in problem(service.http.post("/predict", files=twice), 422, "body", "image")
    malformed = {"content-type": "multipart/form-data"}
    problem(service.http.post("/predict", content=SEVEN, headers=malformed), 400, "body")
    malformed = {"content-type": "multipart/form-data; boundary=x"}
    problem(service.http.post("/predict", content=SEVEN, headers=malformed), 400, "body")


def test_what_belongs_into_the_query_is_not_ignored_in_a_body(service: Service) -> None:
    fields = {"segment": "true", "model": "default", "include": "seen"}
    form = service.http.post("/predict", files={"image": ("7.png", SEVEN)}, data=fields)
    json = service.http.post("/predict", json={"image": base64.b64encode(SEVEN).decode(), **fields})
    for refused, field in ((form, ("body", "segment")), (json, ("body",))):
        assert "model, include and segment go into the query" in problem(refused, 422, *field)


@pytest.mark.parametrize("media_type", ["text/plain", "image/gif", "application/octet-stream", ""])
def test_a_wrong_media_type_is_refused(service: Service, media_type: str) -> None:
    response = service.http.post("/predict", content=SEVEN, headers={"content-type": media_type})
    assert "image/png" in problem(response, 415, "header", "content-type")


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"epochs": 0}, ("body", "epochs")),
        ({"epochs": "many"}, ("body", "epochs")),
        ({"batch_size": 100_000}, ("body", "batch_size")),
        ({"colour": "red"}, ("body", "colour")),
        ({"preset": "slow"}, ("body", "preset")),
        ({"preset": []}, ("body", "preset")),
        (
            {"network": [{"type": "flatten"}, {"type": "dense", "units": 10**9}]},
            ("body", "network", 1, "units"),
        ),
        ({"network": [{"type": "flatten"}, {"type": "flatten"}]}, ("body", "network", 1)),
        ({"network": [{"type": "activation"}]}, ("body", "network", 0, "activation")),
        ({"network": [{"type": "activation", "activation": "relu", "size": 3}]}, ("body", "network", 0, "size")),
        ({"loss": {"label_smoothing": 2}}, ("body", "loss", "label_smoothing")),
        ({"loss": "poisson", "network": [{"type": "flatten"}, {"type": "dense", "units": 10}]}, ("body", "loss")),
        ({"optimizer": {"type": "adam", "learning_rate": True}}, RATE),
        ({"optimizer": {"learning_rate": 0.1}}, ("body", "optimizer")),
        ({"network": [{"type": "flatten"}, {"type": "lstm"}]}, ("body", "network", 1)),
        ({"optimizer": {"type": "adam", "learning_rate": -1}}, RATE),
    ],
)
def test_a_spec_that_cannot_be_trained_is_refused(service: Service, fields: Any, loc: tuple[str | int, ...]) -> None:
    before = service.get("/train?limit=1")
    problem(service.http.post("/train", json=fields), 422, *loc)
    assert service.get("/train?limit=1")["runs"][0]["id"] == before["runs"][0]["id"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ("", ("body",)),
        ("{", ("body",)),
        ("[]", ("body",)),
        ('{"optimizer": {"type": "adam", "learning_rate": NaN}}', RATE),
        ('{"optimizer": {"type": "adam", "learning_rate": Infinity}}', RATE),
        ('{"validation_split": -Infinity}', ("body", "validation_split")),
        ('{"epochs": 1e999}', ("body", "epochs")),
        ('{"name": "\\ud800"}', ("body", "name")),
    ],
)
def test_a_body_that_is_no_spec_is_refused(service: Service, body: str, loc: tuple[str | int, ...]) -> None:
    response = service.http.post("/train", content=body, headers={"content-type": "application/json"})
    problem(response, 422, *loc)


def test_a_body_too_deep_to_parse_is_refused(service: Service) -> None:
    headers = {"content-type": "application/json"}
    problem(service.http.post("/train", content="[" * 60_000, headers=headers), 422, "body")


def test_a_body_of_unannounced_size_is_refused_as_it_grows(service: Service) -> None:
    parts = (NOISE[:1_000_000] for _ in range(10))
    problem(service.http.post("/predict", content=parts, headers={"content-type": "image/png"}), 413, "body")


def test_a_spec_of_the_wrong_media_type_is_refused(service: Service) -> None:
    problem(service.http.post("/train", content="{}", headers={"content-type": "text/plain"}), 415)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/train/nothing"),
        ("GET", "/train/nothing/events"),
        ("POST", "/train/nothing/cancel"),
        ("GET", "/evaluate/nothing"),
        ("GET", "/models/nothing"),
        ("GET", "/models/nothing/download"),
        ("DELETE", "/models/nothing"),
        ("GET", "/train/%00"),
        ("GET", "/models/" + "x" * 5000),
    ],
)
def test_an_unknown_run_or_model_is_404_by_name(service: Service, method: str, path: str) -> None:
    problem(service.http.request(method, path), 404)


def test_an_unknown_model_is_404_wherever_it_is_named(service: Service) -> None:
    response = service.http.post("/predict?model=nothing", content=SEVEN, headers={"content-type": "image/png"})
    assert "there is no model or alias 'nothing'" in problem(response, 404)
    assert "'nothing'" in problem(service.http.put("/models/default", json={"model": "nothing"}), 404)
    surrogate = service.http.put(
        "/models/default", content='{"model": "\\ud800"}', headers={"content-type": "application/json"}
    )
    problem(surrogate, 422, "body", "model")


def test_other_requests_that_are_wrong_are_problems_too(service: Service) -> None:
    problem(service.http.get("/nowhere"), 404)
    problem(service.http.put("/predict"), 405)
    problem(service.http.get("/train?limit=0"), 422, "query", "limit")
    problem(service.http.get("/train?offset=-1"), 422, "query", "offset")
    problem(service.http.put("/models/default", json={}), 422, "body", "model")
    model = service.get("/readyz")["model"]
    problem(service.http.get(f"/models/{model}/download?format=pickle"), 422, "query", "format")
    answer = service.http.post("/predict?include=all", content=SEVEN, headers={"content-type": "image/png"})
    problem(answer, 422, "query", "include", 0)
    assert "'default'" in problem(service.http.delete(f"/models/{model}"), 409)


def test_an_ended_run_cannot_be_cancelled(service: Service) -> None:
    assert "has ended (succeeded)" in problem(service.http.post(f"/train/{FIRST_RUN}/cancel"), 409)


def test_a_bad_last_event_id_is_refused(service: Service) -> None:
    run = service.get("/train?limit=1")["runs"][0]["id"]
    response = service.http.get(f"/train/{run}/events", headers={"Last-Event-ID": "last"})
    problem(response, 422, "header", "last-event-id")


def test_a_body_that_breaks_off_is_nobodys_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "api") as service:
        for path, media_type in (("/predict", "image/png"), ("/predict", "application/json"), ("/models", FILE_TYPE)):
            before = refusals(service, path)
            service.begin(path, media_type, "half").close()
            wait_for(lambda path=path, before=before: refusals(service, path) == before + 1)
    assert "Traceback" not in capfd.readouterr().err


def refusals(service: Service, path: str) -> int:
    found = re.search(rf'route="{path}",status="400"}} (\d+)', service.http.get("/metrics").text)
    return int(found[1]) if found else 0
