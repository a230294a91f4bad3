"""The REST contract in one process and without a worker: what each route answers, to whom, and with which headers."""

import base64
import codecs
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.database import Database
from app.main import create_app
from app.registry import Registry
from app.settings import Settings
from model import network as net
from model.checkpoint import to_bytes
from model.presets import PRESETS
from tests.drawings import draw, encoded
from tests.problems import problem
from tests.processes import SMALL_SPEC
from tests.published import DATA, SPEC, evaluation, publish

PIXELS = np.asarray(draw(7)).tolist()
KEYS = {"ada": "key of ada", "bob": "key of bob", "teacher": "key of teacher"}
MAX_IMAGES = 3


def client(data_dir: Path, database_url: str = "", **settings: Any) -> TestClient:
    return TestClient(create_app(Settings(data_dir=data_dir, database_url=database_url, **settings)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rest")


@pytest.fixture(scope="module")
def models(folder: Path) -> list[str]:
    """Three, best first."""
    with closing(Database(f"sqlite:///{folder / 'inkling.db'}")) as database:
        database.migrate()
        registry = Registry(database)
        other = to_bytes(net.init(jax.random.key(1), SPEC.network), SPEC)
        as_accurate = evaluation(0.9).model_copy(update={"loss": 0.2})
        best = publish(registry, "best", 0.9)
        second, _ = registry.add(other, SPEC, as_accurate, "uploaded")
        return [best, second, publish(registry, "worst", 0.5)]


@pytest.fixture(scope="module")
def rest(folder: Path, models: list[str]) -> Iterator[TestClient]:
    """Everybody may change everything."""
    with client(folder, max_images=MAX_IMAGES) as rest:
        yield rest


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[TestClient]:
    """Without a model."""
    limits = {"max_queued_runs": 4, "max_queued_runs_per_user": 2}
    with client(tmp_path, api_keys=KEYS, priority_users=["teacher"], **limits) as keyed:
        yield keyed


def bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[user]}"}


def test_a_service_without_a_model_lives_and_says_when_to_come_again(keyed: TestClient) -> None:
    assert keyed.get("/healthz").json() == {"status": "ok"}
    for refused in (keyed.get("/readyz"), keyed.post("/predict", json={"pixels": PIXELS})):
        assert "no model is ready yet" in problem(refused, 503)
        assert refused.headers["retry-after"] == "5"
    problem(keyed.get("/evaluate/default"), 404)
    assert keyed.get("/models").json() == {"models": [], "next_offset": None}
    assert keyed.get("/evaluate").json() == {"models": []}
    assert [(run["name"], run["state"]) for run in keyed.get("/train").json()["runs"]] == [("quick", "queued")]


def test_a_user_has_some_runs_and_all_together_have_some(keyed: TestClient) -> None:
    def ask(user: str) -> Any:
        return keyed.post("/train", json=SMALL_SPEC, headers=bearer(user))

    assert [ask("ada").status_code for _ in range(2)] == [202, 202]
    refused = ask("ada")
    assert "2 of your runs are waiting" in problem(refused, 429)
    assert refused.headers["retry-after"] == "30"
    assert ask("bob").status_code == 202  # the fourth, with the service's own
    refused = ask("bob")
    assert "4 runs are waiting already" in problem(refused, 503)
    assert refused.headers["retry-after"] == "5"


def test_a_run_is_its_users_own_and_a_teachers(keyed: TestClient) -> None:
    path = keyed.post("/train", json=SMALL_SPEC, headers=bearer("ada")).headers["location"]
    unknown = keyed.post(f"{path}/cancel")
    assert "Authorization: Bearer KEY" in problem(unknown, 401)
    assert unknown.headers["www-authenticate"] == "Bearer"
    wrong = keyed.post(f"{path}/cancel", headers={"Authorization": "Bearer nobody's"})
    assert "this is no key of this service" in problem(wrong, 401)
    assert "this run is another user's; only" in problem(keyed.post(f"{path}/cancel", headers=bearer("bob")), 403)
    assert keyed.post(f"{path}/cancel", headers=bearer("teacher")).json()["state"] == "cancelled"
    problem(keyed.delete(path, headers=bearer("bob")), 403)
    assert keyed.delete(path, headers=bearer("ada")).status_code == 204
    services_own = keyed.post("/train/first-0/cancel", headers=bearer("ada"))
    assert services_own.json()["state"] == "cancelled"
    high = keyed.post("/train?priority=high", json=SMALL_SPEC, headers=bearer("bob"))
    assert "INKLING_PRIORITY_USERS" in problem(high, 403)


def test_a_run_is_queued_cancelled_and_deleted(rest: TestClient) -> None:
    accepted = rest.post("/train", json={"preset": "quick", "epochs": 3, "name": "mine"})
    run, path = accepted.json(), accepted.headers["location"]
    assert (accepted.status_code, path) == (202, f"/train/{run['id']}")
    quick = PRESETS["quick"].spec.model_dump(mode="json")
    assert (run["state"], run["spec"]) == ("queued", {**quick, "epochs": 3, "name": "mine"})
    assert rest.get(path).json() == run
    assert rest.get("/train?limit=1").json()["runs"] == [{key: run[key] for key in run if key != "history"}]
    problem(rest.delete(path), 409)
    cancelled = rest.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    asked_at, ended_at = (datetime.fromisoformat(cancelled.json()[name]) for name in ("created_at", "ended_at"))
    assert asked_at <= ended_at
    problem(rest.post(f"{path}/cancel"), 409)

    events = rest.get(f"{path}/events")
    assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (events.headers["cache-control"], events.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert events.text == 'event: end\ndata: {"state":"cancelled","model":null,"error":null}\nid: 0\n\n'
    assert rest.get(f"{path}/events", headers={"Last-Event-ID": "0"}).status_code == 204
    deleted = rest.delete(path)
    assert (deleted.status_code, deleted.content, "content-type" in deleted.headers) == (204, b"", False)
    problem(rest.get(f"{path}/events"), 404)


def test_a_run_or_model_of_no_possible_name_is_404_on_every_database(tmp_path: Path, database_url: str) -> None:
    with client(tmp_path, database_url) as rest:
        for path in ("/train/%00", "/train/%00/events", "/models/%00", "/evaluate/%00", "/v2/models/%00"):
            problem(rest.get(path), 404)
        problem(rest.post("/train/%00/cancel"), 404)
        problem(rest.delete("/train/%00"), 404)
        problem(rest.post("/predict?model=%00", json={"pixels": PIXELS}), 404)
        problem(rest.get("/models?name=%00"), 422, "query", "name")


def test_presets_are_those_that_train_takes(rest: TestClient) -> None:
    listed = {
        preset["name"]: (preset["description"], preset["spec"]) for preset in rest.get("/presets").json()["presets"]
    }
    assert listed == {
        name: (preset.description, preset.spec.model_dump(mode="json")) for name, preset in PRESETS.items()
    }
    for name, (_, spec) in listed.items():
        dry_run = rest.post("/train?dry_run=true", json={"preset": name})
        assert (dry_run.status_code, dry_run.json()["spec"]) == (200, spec)
    assert rest.post("/train?dry_run=true", json={}).json()["spec"] == listed["tutorial"][1]


def test_the_leaderboard_is_best_first_and_among_equals_by_loss(rest: TestClient, models: list[str]) -> None:
    assert rest.get("/readyz").json() == {"status": "ready", "model": models[0]}
    scores = [(0.9, 1 - 0.9), (0.9, 0.2), (0.5, 0.5)]
    names = [SPEC.name, "uploaded", SPEC.name]
    assert rest.get("/evaluate").json() == {
        "models": [
            {"model": model, "name": name, "loss": loss, "accuracy": accuracy, "parameters": 7850}
            for model, name, (accuracy, loss) in zip(models, names, scores, strict=True)
        ]
    }


def test_a_model_is_reported_and_downloaded_by_id_and_by_alias(rest: TestClient, models: list[str]) -> None:
    report = rest.get("/evaluate/default").json()
    assert report == {**evaluation(0.9).model_dump(mode="json"), "model": models[0]}
    assert report == rest.get(f"/evaluate/{models[0]}").json()
    for name in ("default", models[0]):
        file = rest.get(f"/models/{name}/download?format=safetensors")
        assert (file.status_code, file.content) == (200, DATA)
        assert file.headers["content-type"] == "application/octet-stream"
        assert file.headers["content-disposition"] == f'attachment; filename="{models[0]}.safetensors"'
    assert set(rest.get("/models/default").json()) == {
        *("id", "name", "description", "run", "created_at", "parameters", "spec", "scores", "aliases", "pinned")
    }


def test_a_prediction_has_these_fields_and_no_others(rest: TestClient, models: list[str]) -> None:
    fields = {"digit", "confidence", "probabilities", "is_digit", "digit_score", "model"}
    one = rest.post("/predict", json={"pixels": PIXELS})
    assert (one.status_code, set(one.json())) == (200, fields)
    named = rest.post(f"/predict?model={models[1]}&include=seen", json={"images": [PIXELS] * MAX_IMAGES}).json()
    assert [(set(answer), answer["model"]) for answer in named["predictions"]] == [
        ({*fields, "seen"}, models[1])
    ] * MAX_IMAGES
    many = rest.post("/predict", json={"images": [PIXELS] * (MAX_IMAGES + 1)})
    assert "4 images; at most 3" in problem(many, 422, "body", "images")


@pytest.mark.parametrize(
    "path", ["/", "/static/seven.png", "/healthz", "/readyz", "/models?limit=1", "/models/default/download"]
)
def test_whatever_is_got_may_be_asked_for_its_head_alone(rest: TestClient, path: str) -> None:
    answer = rest.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == rest.get(path).headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "says"),
    [
        ("POST", "/train", b"[]", 422, "body: Input should be an object"),
        ("POST", "/train", b'{"network": {}}', 422, "body.network: Input should be an array"),
        ("POST", "/train", b'{"network": [{}]}', 422, "body.network.0: Input should be an object with a type"),
        ("POST", "/train", b'{"network": []}', 422, "body.network: Input should have at least 1 item"),
        ("POST", "/train", b'{"class_weight": [1]}', 422, "body.class_weight: Input should have at least 10 items"),
        ("POST", "/train", b'{"name": " "}', 422, "body.name: Input should be printable, on one line, and more than"),
        ("PUT", "/aliases/A", b'{"model": "default"}', 422, "path.alias: Input should be 1 to 32 of a-z, 0-9 and -"),
        ("POST", "/train", b"\x1f\x8b\x08", 422, "not JSON: 'utf-8' codec can't decode byte 0x8b in position 1"),
        (
            "POST",
            "/train",
            b'{"epochs": 1,}',
            422,
            "not JSON: Expecting property name enclosed in double quotes: line 1",
        ),
        (
            "POST",
            "/train",
            b"1" * 5_000,
            422,
            "not JSON: Exceeds the limit (4300 digits) for integer string conversion",
        ),
        ("GET", "/models?colour=red", b"", 422, "there is no parameter 'colour'; expected name, sort, order, limit,"),
        ("POST", "/predict", b'{"images": ["AAAA"]}', 422, "body.images.0: this is not an image in a known format"),
        ("POST", "/train", b" " * 65_537, 413, "the body is larger than the 65,536 bytes that this route takes"),
        (
            "POST",
            "/predict",
            b" " * 8_000_001,
            413,
            "the body is larger than the 8,000,000 bytes that this route takes",
        ),
        ("GET", "/trains", b"", 404, "nothing here answers GET /trains; /openapi.json describes what there is"),
        ("PUT", "/train", b"", 405, "nothing here answers PUT /train; /openapi.json describes what there is"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refusal_says_what_would_be_right(
    rest: TestClient, method: str, path: str, content: bytes, status: int, says: str, chunked: bool
) -> None:
    sent = iter([content]) if chunked else content
    assert problem(
        rest.request(method, path, content=sent, headers={"content-type": "application/json"}), status
    ).startswith(says)


def test_pages_of_other_sites_may_ask_where_that_is_allowed(tmp_path: Path, rest: TestClient) -> None:
    origin = "https://school.example"
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "authorization, content-type"
    with client(tmp_path, api_keys=KEYS, allowed_origins=[origin]) as opened:
        assert opened.options("/train", headers=asks).headers["access-control-allow-origin"] == origin
        answers = [
            opened.post("/train", json=SMALL_SPEC, headers={"Origin": origin, **bearer("ada")}),
            opened.post("/predict", json={"pixels": PIXELS}, headers={"Origin": origin}),
        ]
        assert [answer.status_code for answer in answers] == [202, 503]
        assert {answer.headers["access-control-allow-origin"] for answer in answers} == {origin}
        strange = opened.get("/train", headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in strange.headers
    assert "access-control-allow-origin" not in rest.get("/train", headers={"Origin": origin}).headers


def test_a_page_of_another_site_changes_nothing_unasked(tmp_path: Path) -> None:
    with client(tmp_path, allowed_origins=["https://school.example"]) as opened:
        for origin, site, status in (
            ("https://elsewhere.example", "cross-site", 403),
            ("http://localhost:9000", "same-site", 403),
            ("https://school.example", "cross-site", 202),
        ):
            headers = {"Origin": origin, "Sec-Fetch-Site": site}
            run = opened.post("/train", json=SMALL_SPEC, headers={"Sec-Fetch-Site": "same-origin"}).json()["id"]
            answer = opened.post(f"/train/{run}/cancel", headers=headers)
            assert answer.status_code == status
            assert status == 202 or problem(answer, 403) == (
                f"{origin} is another site; INKLING_ALLOWED_ORIGINS names those that may"
            )


@pytest.mark.parametrize("path", ["/train?dry_run=true", "/predict"])
def test_a_mark_of_the_byte_order_before_json_is_passed_over(rest: TestClient, path: str) -> None:
    body = codecs.BOM_UTF8 + json.dumps({"pixels": PIXELS} if path == "/predict" else {"epochs": 1}).encode()
    assert rest.post(path, content=body, headers={"content-type": "application/json"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("POST", "/train?dryrun=true", "expected dry_run, priority"),
        ("POST", "/predict?segments=true", "expected model, include, segment"),
        ("GET", "/models/default?name=", "expected none"),
    ],
)
def test_a_parameter_that_is_misspelt_is_refused(rest: TestClient, method: str, path: str, says: str) -> None:
    name = path.partition("?")[2].partition("=")[0]
    assert says in problem(rest.request(method, path, json={}), 422, "query", name)
    assert rest.get("/train").json()["runs"] == []


def test_a_monitor_may_add_parameters_of_its_own(rest: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v2/health/ready"):
        assert rest.get(f"{path}?from=monitor").status_code == 200


@pytest.mark.parametrize("spec", [{"class_weight": [1] * 9 + [-1]}, {"network": [{"type": "flatten", "units": 10}]}])
def test_an_array_is_not_called_short_where_its_items_are_wrong(rest: TestClient, spec: dict[str, Any]) -> None:
    (error,) = rest.post("/train", json=spec).json()["errors"]
    assert len(error["loc"]) > 2


def test_a_key_beyond_ascii_may_come_in_either_encoding(tmp_path: Path) -> None:
    with client(tmp_path, api_keys={"ada": "clé"}) as rest:
        for sent, status in (("clé".encode(), 200), ("clé".encode("latin-1"), 200), (b"cl", 401)):
            answer = rest.post("/train?dry_run=true", json={}, headers={b"Authorization": b"Bearer " + sent})
            assert answer.status_code == status


def test_base64_may_be_in_lines(rest: TestClient) -> None:
    lines = base64.encodebytes(encoded(draw(7))).decode()
    assert "\n" in lines.strip()
    for image in (lines, f"data:image/png;base64,{lines}"):
        assert rest.post("/predict", json={"image": image}).json()["digit"] in range(10)


def test_null_is_as_good_as_nothing(rest: TestClient) -> None:
    image, pixels = base64.b64encode(encoded(draw(7))).decode(), np.asarray(draw(7)).tolist()
    for drawing in ({"image": image}, {"pixels": pixels}, {"images": [image]}):
        assert rest.post("/predict", json={"image": None, "pixels": None, "images": None, **drawing}).is_success


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST"}),
        ("PUT", "/train", {"GET", "HEAD", "POST"}),
        ("POST", "/models/default", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("POST", "/static/seven.png", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_a_path_has_not_is_405_with_those_that_it_has(
    rest: TestClient, method: str, path: str, allowed: set[str]
) -> None:
    refused = rest.request(method, path)
    problem(refused, 405)
    assert set(refused.headers["allow"].split(", ")) == allowed
