"""The registry over REST: upload, list, rename, compare, aliases, and two models at once."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from app import uploads
from app.comparisons import differences
from app.errors import InvalidInputError, ScoringError
from app.routes.models import FILE_TYPE
from app.uploads import MAX_UPLOAD_BYTES, SCORER, check, score
from model.checkpoint import METADATA_KEY, confidence_of, from_bytes, metadata_of, to_bytes
from model.data import Mnist
from model.evaluate import evaluate
from model.spec import TrainSpec
from tests.drawings import draw, encoded
from tests.files import FILE, GOOD, file, upload
from tests.models import FirstModel
from tests.problems import problem
from tests.processes import SOON_SECONDS, Service, serving, wait_for


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel) -> Iterator[Service]:
    """An API with its first model as the default; nothing is trained."""
    with serving(with_model(tmp_path_factory.mktemp("registry")), "api") as service:
        service.ready()
        yield service


def ids(service: Service, query: str = "") -> list[str]:
    return [model["id"] for model in service.get(f"/models{query}")["models"]]


@pytest.fixture(scope="module")
def uploaded(registry: Service) -> list[str]:
    """Three models, oldest first."""
    seeds: list[dict[str, Any]] = [
        {"name": "Übung 1", "optimizer": {"type": "sgd", "learning_rate": 0.1}},
        {"name": "100% pens"},
        {"name": "übung 2", "epochs": 3},
    ]
    answers = [upload(registry, file(seed, **fields)) for seed, fields in enumerate(seeds)]
    assert [answer.status_code for answer in answers] == [201] * 3, [answer.text for answer in answers]
    return [answer.json()["id"] for answer in answers]


def test_an_uploaded_model_is_scored_here_and_answers_like_any_other(registry: Service, mnist: Mnist) -> None:
    default = registry.get("/models/default")
    content = file(7, name="mine")
    answer = upload(registry, content, name="theirs")
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert answer.headers["location"] == f"/models/{model['id']}"
    assert (model["name"], model["run"], model["aliases"], model["parameters"]) == ("theirs", None, [], 25450)

    spec, parameters = from_bytes(content)
    expected = evaluate(jax.tree.map(jnp.asarray, parameters), mnist.test, spec)
    assert model["scores"]["accuracy"] == expected.accuracy
    assert model["scores"]["loss"] == pytest.approx(expected.loss, rel=1e-6)
    report = registry.get(f"/evaluate/{model['id']}")
    assert report["confusion_matrix"] == expected.confusion_matrix
    assert registry.http.get(f"/models/{model['id']}/download").content == content
    seven = encoded(draw(7))
    said = registry.http.post(f"/predict?model={model['id']}", content=seven, headers={"content-type": "image/png"})
    assert said.json()["model"] == model["id"]
    assert registry.get("/models/default") == default


def test_the_same_bytes_are_one_model(registry: Service) -> None:
    default = registry.get("/models/default")
    downloaded = registry.http.get("/models/default/download").content
    again = upload(registry, downloaded, name="mine")
    assert (again.status_code, again.json()) == (200, default)
    content = file(8)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: upload(registry, content), range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert answers[0].json() == answers[1].json()
    assert upload(registry, content).status_code == 200


def test_an_uploaded_model_is_the_default_only_where_somebody_pins_it(registry: Service) -> None:
    first = registry.get("/models/default")["id"]
    downloaded = registry.http.get("/models/default/download").content
    spec, parameters = from_bytes(downloaded)
    renamed = to_bytes(parameters, spec.model_copy(update={"name": "as good"}), confidence_of(downloaded))
    model = upload(registry, renamed).json()["id"]
    assert registry.get("/models/default")["id"] == first
    reports = [registry.get(f"/evaluate/{name}") for name in (first, model)]
    assert reports[0]["confusion_matrix"] == reports[1]["confusion_matrix"]
    assert reports[1]["calibration"]["bins"] == [
        pytest.approx(row, abs=1e-4) for row in reports[0]["calibration"]["bins"]
    ]
    assert registry.http.put("/models/default", json={"model": model}).json()["id"] == model
    assert registry.http.put("/models/default", json={"model": None}).json()["id"] == first


HEADER_BYTES = int.from_bytes(GOOD[:8], "little")
HEADER = json.loads(GOOD[8 : 8 + HEADER_BYTES])


def with_header(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + GOOD[8 + HEADER_BYTES :]


def with_spec(text: str) -> bytes:
    return with_header({**HEADER, "__metadata__": {METADATA_KEY: text}})


def with_tensors(change: Callable[[dict[str, Any]], Any]) -> bytes:
    tensors = {name: tensor.copy() for name, tensor in safetensors.numpy.load(GOOD).items()}
    change(tensors)
    return safetensors.numpy.save(tensors, metadata=HEADER["__metadata__"])


BAD_FILES = [
    pytest.param(b"", "not a safetensors file", id="empty"),
    pytest.param(b"\1", "not a safetensors file", id="one byte"),
    pytest.param(b"PK\3\4 this is a zip, as .keras is", "announce a header of", id="zip"),
    pytest.param(GOOD[: 8 + HEADER_BYTES // 2], "announce a header of", id="half a header"),
    pytest.param(GOOD[:-1], "not a safetensors file", id="truncated"),
    pytest.param(GOOD + b"\0", "not a safetensors file", id="longer"),
    pytest.param((2**63).to_bytes(8, "little") + GOOD[8:], "9,223,372,036,854,775,808", id="absurd header length"),
    pytest.param((10**8).to_bytes(8, "little") + b"{" * 10_000_000, "100,000,000 bytes", id="header of 100 MB"),
    pytest.param((5 * 10**6).to_bytes(8, "little") + b" " * 5_000_000, "5,000,000 bytes", id="header of 5 MB"),
    pytest.param((10**6).to_bytes(8, "little") + b"[" * 10**6, "not a safetensors file", id="nested header"),
    pytest.param(with_header({**HEADER, "__metadata__": {}}), "no spec in its metadata", id="no spec"),
    pytest.param(with_header(HEADER["__metadata__"]), "not a safetensors file", id="no tensors"),
    pytest.param(with_spec("{"), "no spec in its metadata", id="half a spec"),
    pytest.param(with_spec("[" * 100_000), "no spec in its metadata", id="nested spec"),
    pytest.param(with_spec('{"spec": {"epochs": ' + "9" * 5_000 + "}}"), "", id="number of 5,000 digits"),
    pytest.param(with_spec('{"spec": {"epochs": NaN}}'), "its spec is not valid: spec.epochs", id="NaN in the spec"),
    pytest.param(with_spec('{"spec": {"name": "\\ud800"}}'), "its spec is not valid: spec.name", id="surrogate"),
    pytest.param(with_spec('{"spec": {"name": "\\u0000"}}'), "its spec is not valid: spec.name", id="NUL"),
    pytest.param(with_spec('{"spec": {"' + "x" * 100_000 + '": 0}}'), "its spec is not valid: spec.x", id="long field"),
    pytest.param(with_spec('{"spec": []}'), "its spec is not valid: spec: ", id="a list for a spec"),
    pytest.param(
        with_tensors(lambda tensors: tensors.pop("layers.1.bias")), "layers.1.bias is missing", id="missing tensor"
    ),
    pytest.param(
        with_tensors(lambda tensors: tensors.update({"layers.1.bias": np.zeros(33, np.float32)})),
        "layers.1.bias is float32[33]; expected float32[32]",
        id="wrong shape",
    ),
    pytest.param(
        with_tensors(lambda tensors: tensors["layers.2.kernel"].__setitem__((3, 3), np.nan)),
        "layers.2.kernel has values that are not finite",
        id="NaN",
    ),
    pytest.param(
        with_tensors(lambda tensors: tensors["layers.1.bias"].__setitem__(0, np.inf)),
        "layers.1.bias has values that are not finite",
        id="infinity",
    ),
    pytest.param(
        with_tensors(lambda tensors: [tensor.fill(3e38) for tensor in tensors.values()]),
        "its outputs on the test images are not finite",
        id="overflow",
    ),
]


@pytest.mark.parametrize(("content", "says"), BAD_FILES)
def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(registry: Service, content: bytes, says: str) -> None:
    before = ids(registry)
    answer = upload(registry, content)
    assert says in problem(answer, 422, "body")
    assert len(answer.content) < 2_000
    assert ids(registry) == before


def test_a_confidence_that_is_none_is_refused(registry: Service) -> None:
    """What the service adds to the parameters, so that it can tell how sure a network is."""
    downloaded = registry.http.get("/models/default/download").content
    tensors = {name: tensor.copy() for name, tensor in safetensors.numpy.load(downloaded).items()}
    tensors["gaussians.offsets"][0] = np.nan
    changed = safetensors.numpy.save(tensors, metadata=metadata_of(downloaded))
    assert "gaussians.offsets is not finite" in problem(upload(registry, changed), 422, "body")


def test_a_download_says_what_it_is(registry: Service) -> None:
    model = registry.get("/models/default")
    said = json.loads(metadata_of(registry.http.get("/models/default/download").content)[METADATA_KEY])
    assert said["scores"] == {field: model["scores"][field] for field in ("loss", "accuracy")}
    assert said["spec"]["name"] == model["name"]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E4M3", "F4", "C64", "BOOL", "nothing"])
def test_a_tensor_of_another_type_is_refused(dtype: str) -> None:
    header = {**HEADER, "layers.1.bias": {**HEADER["layers.1.bias"], "dtype": dtype}}
    with pytest.raises(InvalidInputError):
        check(with_header(header))


def test_bytes_changed_at_random_are_refused_or_a_model() -> None:
    generator = np.random.default_rng(0)
    head = 8 + HEADER_BYTES
    for _ in range(500):
        changed = bytearray(GOOD)
        for place in generator.integers(0, head, generator.integers(1, 4)):
            changed[place] = generator.integers(0, 256)
        with suppress(InvalidInputError):
            assert isinstance(check(bytes(changed)), TrainSpec)


def test_a_file_above_the_limit_is_refused_by_size_and_one_above_the_others_is_not(registry: Service) -> None:
    problem(upload(registry, bytes(MAX_UPLOAD_BYTES + 1)), 413, "body")
    parts = (bytes(1_000_000) for _ in range(80))
    problem(registry.http.post("/models", content=parts, headers=FILE), 413, "body")
    problem(upload(registry, bytes(20_000_000)), 422, "body")


def test_an_upload_of_another_media_type_or_with_a_bad_name_is_refused(registry: Service) -> None:
    problem(registry.http.post("/models", content=GOOD), 415, "header", "content-type")
    problem(registry.http.post("/models", files={"model": GOOD}), 415, "header", "content-type")
    for name in ("", " ", "n" * 101, "two\nlines"):
        problem(upload(registry, GOOD, name=name), 422, "query", "name")


def test_only_so_many_uploads_at_once(registry: Service) -> None:
    with ExitStack() as stalled:

        def no_place_is_left() -> bool:
            stalled.enter_context(registry.begin("/models", FILE_TYPE))
            return bool(upload(registry, b"").status_code == 503)

        wait_for(no_place_is_left, SOON_SECONDS)
        refused = upload(registry, GOOD)
        assert "being uploaded already" in problem(refused, 503)
        assert refused.headers["retry-after"]
    wait_for(lambda: upload(registry, b"").status_code == 422, SOON_SECONDS)


def test_scoring_that_takes_too_long_is_ended(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SCORING_SECONDS", 0.1)
    with pytest.raises(InvalidInputError, match="it takes longer than 0 s to score it"):
        asyncio.run(score(GOOD, cache_dir))


def test_data_that_cannot_be_fetched_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(uploads, "SCORING_SECONDS", 0.1)
    with pytest.raises(ScoringError, match="cannot be scored: MNIST is not cached and cannot be fetched"):
        asyncio.run(score(GOOD, tmp_path))


def test_a_scorer_that_dies_is_no_fault_of_the_model(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SCORER", (*SCORER[:1], "-c", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(ScoringError, match="ended early, with status -9"):
        asyncio.run(score(bytes(10_000_000), cache_dir))


def test_models_are_found_sorted_and_paged(registry: Service, uploaded: list[str]) -> None:
    one, pens, two = uploaded
    assert ids(registry, "?name=ÜBUNG") == [two, one]
    assert ids(registry, "?name=%25") == [pens]
    assert ids(registry, "?name=_") == []
    assert ids(registry, "?name=ÜBUNG&order=asc&sort=name") == [one, two]
    everything = registry.get("/models")["models"]
    assert registry.get("/models")["next_offset"] is None
    assert [model["created_at"] for model in everything] == sorted(
        (model["created_at"] for model in everything), reverse=True
    )
    for sort, key in (
        ("name", lambda model: model["name"].lower()),
        ("accuracy", lambda model: model["scores"]["accuracy"]),
        ("loss", lambda model: model["scores"]["loss"]),
        ("parameters", lambda model: model["parameters"]),
        ("created_at", lambda model: model["created_at"]),
    ):
        found, offset = [], 0
        while offset is not None:
            page = registry.get(f"/models?sort={sort}&order=asc&limit=2&offset={offset}")
            assert len(page["models"]) <= 2
            found += page["models"]
            offset = page["next_offset"]
        assert sorted(model["id"] for model in found) == sorted(model["id"] for model in everything)
        assert [key(model) for model in found] == sorted(key(model) for model in everything), sort
        best_first = registry.get(f"/models?sort={sort}")["models"]
        assert best_first == (found if sort in ("name", "loss") else found[::-1])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("sort=size", "sort"),
        ("order=up", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
        (f"offset={10**20}", "offset"),
        ("name=%00", "name"),
        (f"name={'n' * 101}", "name"),
    ],
)
def test_a_list_that_cannot_be_given_is_refused(registry: Service, query: str, field: str) -> None:
    problem(registry.http.get(f"/models?{query}"), 422, "query", field)


def test_a_model_is_renamed_and_described(registry: Service, uploaded: list[str]) -> None:
    path = f"/models/{uploaded[0]}"
    before = registry.get(path)
    described = {"description": "For room 12.\nReads sevens with a bar; 好."}
    assert registry.http.patch(path, json=described).json() == {**before, **described}
    renamed = registry.http.patch(path, json={"name": "crossed", "description": None}).json()
    assert renamed == {**before, **described, "name": "crossed"} == registry.get(path)
    restored = registry.http.patch(path, json={"name": before["name"], "description": ""})
    assert restored.json() == before
    for body, loc in (
        ({}, ()),
        ({"name": None}, ()),
        ({"name": ""}, ("name",)),
        ({"name": "two\nlines"}, ("name",)),
        ({"name": "n" * 101}, ("name",)),
        ({"description": "d" * 2_001}, ("description",)),
        ({"description": "nul\0"}, ("description",)),
        ({"accuracy": 1.0}, ("accuracy",)),
    ):
        problem(registry.http.patch(path, json=body), 422, "body", *loc)
    problem(registry.http.patch(path, json={"description": "d" * 30_000}), 413, "body")
    problem(registry.http.patch("/models/nothing", json={"name": "n"}), 404)
    assert registry.get(path) == before


def test_models_are_compared_side_by_side(registry: Service, uploaded: list[str]) -> None:
    one, pens, two = uploaded
    compared = registry.get(f"/models/compare?models={one}&models={pens}&models={two}")
    assert [model["id"] for model in compared["models"]] == uploaded
    assert {difference["field"]: difference["values"] for difference in compared["differences"]} == {
        "spec.name": ["Übung 1", "100% pens", "übung 2"],
        "spec.optimizer.type": ["sgd", "adam", "adam"],
        "spec.optimizer.learning_rate": [0.1, 0.001, 0.001],
        "spec.optimizer.momentum": [0.0, None, None],
        "spec.optimizer.nesterov": [False, None, None],
        "spec.optimizer.beta_1": [None, 0.9, 0.9],
        "spec.optimizer.beta_2": [None, 0.999, 0.999],
        "spec.optimizer.epsilon": [None, 1e-7, 1e-7],
        "spec.epochs": [20, 20, 3],
    }
    assert [row["digit"] for row in compared["per_class"]] == list(range(10))
    recalls = [score["recall"] for score in registry.get(f"/evaluate/{pens}")["per_class"]]
    assert [row["recall"][1] for row in compared["per_class"]] == recalls
    same = registry.get(f"/models/compare?models={one}&models={one}")
    assert same["differences"] == []
    problem(registry.http.get(f"/models/compare?models={one}"), 422, "query", "models")
    many = "&".join([f"models={one}"] * 9)
    problem(registry.http.get(f"/models/compare?{many}"), 422, "query", "models")
    problem(registry.http.get(f"/models/compare?models={one}&models=nothing"), 404)


def test_a_difference_is_as_small_as_it_can_be() -> None:
    found = differences("spec", [{"a": [1, {"b": 2}], "c": 0.1}, {"a": [1, {"b": 3}, 4], "c": {"type": "step"}}])
    assert [(difference.field, difference.values) for difference in found] == [
        ("spec.a.1.b", [2, 3]),
        ("spec.a.2", [None, 4]),
        ("spec.c", [0.1, {"type": "step"}]),
    ]


def test_an_alias_over_rest(registry: Service, uploaded: list[str]) -> None:
    one, other, _ = uploaded
    pointed = registry.http.put("/aliases/room-12", json={"model": one})
    assert (pointed.status_code, pointed.json()) == (
        200,
        {"name": "room-12", "model": one, "pinned": False, "share": 0.0, "shadow": False},
    )
    assert registry.get("/models/room-12")["aliases"] == ["room-12"]
    assert [alias["name"] for alias in registry.get("/aliases")["aliases"]] == ["default", "room-12"]
    assert f"model {one} is 'room-12'" in problem(registry.http.delete(f"/models/{one}"), 409)
    assert registry.http.put("/aliases/room-12", json={"model": other}).json()["model"] == other
    assert registry.get("/models/room-12")["id"] == other
    for name in ("Room", "12", "-", "a" * 33, "a_b", "%00", "default", "candidate", "compare", "abcdef012345"):
        problem(registry.http.put(f"/aliases/{name}", json={"model": one}), 422, "path", "alias")
        problem(registry.http.delete(f"/aliases/{name}"), 422, "path", "alias")
    assert "PUT /models/candidate" in registry.http.delete("/aliases/candidate").json()["detail"]
    problem(registry.http.put("/aliases/pens", json={"model": "nothing"}), 404)
    problem(registry.http.put("/aliases/pens", json={"model": "\0"}), 422, "body", "model")
    problem(registry.http.put("/aliases/pens", json={}), 422, "body", "model")
    problem(registry.http.delete("/aliases/pens"), 404)
    assert registry.http.delete("/aliases/room-12").status_code == 204
    problem(registry.http.get("/models/room-12"), 404)


def test_a_candidate_over_rest(registry: Service, uploaded: list[str]) -> None:
    one, other, _ = uploaded
    none = {"model": None, "share": 0.0, "shadow": False}
    counts = {"answered", "compared", "agreed"}

    def choice(answer: dict[str, Any]) -> dict[str, Any]:
        assert counts <= set(answer)
        return {field: value for field, value in answer.items() if field not in counts}

    assert choice(registry.get("/models/candidate")) == none
    shared = registry.http.put("/models/candidate", json={"model": one, "share": 0.25})
    assert (shared.status_code, choice(shared.json())) == (200, {"model": one, "share": 0.25, "shadow": False})
    assert registry.get(f"/models/{one}")["aliases"] == ["candidate"]
    assert f"model {one} is 'candidate'" in problem(registry.http.delete(f"/models/{one}"), 409)
    shadowed = registry.http.put("/models/candidate", json={"model": other, "shadow": True})
    assert (
        choice(shadowed.json())
        == {"model": other, "share": 0.0, "shadow": True}
        == choice(registry.get("/models/candidate"))
    )
    for body in (
        {"model": one},
        {"model": one, "share": 0},
        {"model": one, "share": 0.5, "shadow": True},
        {"model": None, "shadow": True},
        {"model": None, "share": 0.5},
    ):
        problem(registry.http.put("/models/candidate", json=body), 422, "body")
    for body, field in (
        ({"share": 0.5}, "model"),
        ({"model": one, "share": 1.01}, "share"),
        ({"model": one, "share": -0.5}, "share"),
    ):
        problem(registry.http.put("/models/candidate", json=body), 422, "body", field)
    problem(registry.http.put("/models/candidate", json={"model": "nothing", "shadow": True}), 404)
    default = registry.http.put("/models/candidate", json={"model": "default", "shadow": True})
    assert "is the default already" in problem(default, 409)
    assert registry.get("/models/candidate")["model"] == other
    assert choice(registry.http.put("/models/candidate", json={"model": None}).json()) == none
    problem(registry.http.get("/models/candidate/download"), 404)


def test_a_deleted_model_is_gone_and_may_come_again(registry: Service) -> None:
    content = file(50)
    model = upload(registry, content).json()["id"]
    assert registry.http.delete(f"/models/{model}").status_code == 204
    problem(registry.http.get(f"/models/{model}"), 404)
    again = upload(registry, content)
    assert (again.status_code, again.json()["id"] != model) == (201, True)
