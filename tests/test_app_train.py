"""/train over real processes: a run is queued, trained in a child of the worker, watched, cancelled and kept."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from app.statuses import ACTIVE
from model.checkpoint import confidence_of, from_bytes
from model.data import Mnist
from model.evaluate import evaluate
from tests.models import FirstModel
from tests.problems import problem
from tests.processes import LONG_SPEC, SMALL_SPEC, SOON_SECONDS, Service, serving, wait_for
from tests.streams import Event, events

pytestmark = pytest.mark.usefixtures("left_as_it_was_found")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel
) -> Iterator[Service]:
    """One service on each kind of database, its first model ready, for all tests that leave it as they find it."""
    url = request.getfixturevalue("postgresql").new_database() if request.param == "postgresql" else ""
    with serving(with_model(tmp_path_factory.mktemp(request.param), url), INKLING_DATABASE_URL=url) as service:
        service.ready()
        yield service


@pytest.fixture(scope="module")
def run(service: Service) -> dict[str, Any]:
    """A small run that has succeeded."""
    return service.ended(service.train(**SMALL_SPEC))


def test_a_run_is_accepted_with_its_location(service: Service) -> None:
    response = service.http.post("/train", json={**SMALL_SPEC, "name": "accepted"})
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/train/{body['id']}"
    assert (body["name"], body["spec"]["epochs"]) == ("accepted", 1)
    assert body["state"] in ACTIVE  # an idle worker may claim it before it is answered


def test_a_request_that_is_sent_again_with_its_key_queues_one_run(service: Service) -> None:
    headers = {"Idempotency-Key": "a client's own"}
    answers = [service.http.post("/train", json=SMALL_SPEC, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    other = service.http.post("/train", json=SMALL_SPEC, headers={"Idempotency-Key": "another"}).json()["id"]
    assert other != answers[0].json()["id"]
    changed = service.http.post("/train", json={**SMALL_SPEC, "epochs": 2}, headers=headers)
    assert f"run {answers[0].json()['id']}, whose spec is another" in problem(changed, 409)


def test_a_dry_run_tells_what_a_run_would_be_and_queues_nothing(service: Service) -> None:
    before = service.get("/train?limit=1")
    response = service.http.post("/train?dry_run=true", json={"epochs": 10})
    assert response.status_code == 200
    body = response.json()
    assert [(row["type"], row["output_shape"], row["parameters"]) for row in body["summary"]] == [
        ("flatten", [784], 0),
        ("dense", [500], 392_500),
        ("dense", [500], 250_500),
        ("dense", [10], 5_010),
    ]
    assert (body["parameters"], body["spec"]["epochs"]) == (648_010, 10)
    assert body["memory_bytes"] > 60_000 * 784 + 4 * 4 * 648_010
    assert 1 < body["seconds"] < 1_000
    assert service.get("/train?limit=1") == before


def test_an_ended_run_has_its_history_and_model(service: Service, run: dict[str, Any]) -> None:
    assert (run["state"], run["queue_position"], run["error"]) == ("succeeded", None, None)
    assert run["created_at"] <= run["ended_at"]
    (epoch,) = run["history"]
    assert epoch["epoch"] == 1
    assert 0 < epoch["accuracy"] < 1
    assert (run["progress"]["step"], run["progress"]["steps"]) == (60, 60)
    model = service.get(f"/models/{run['model']}")
    assert (model["run"], model["name"], model["parameters"]) == (run["id"], "small", 7850)


def test_a_models_report_is_what_its_saved_parameters_give(service: Service, run: dict[str, Any], mnist: Mnist) -> None:
    data = service.http.get(f"/models/{run['model']}/download?format=safetensors").content
    spec, parameters = from_bytes(data)
    report = service.get(f"/evaluate/{run['model']}")
    assert report.pop("model") == run["model"]
    assert report == evaluate(parameters, mnist.test, spec, confidence_of(data)).model_dump(mode="json")


def test_the_stream_replays_a_run_and_resumes_behind_the_last_event(service: Service, run: dict[str, Any]) -> None:
    whole = list(events(service, run["id"]))
    assert [event_id for _, event_id, _ in whole] == [*range(len(whole))]
    kinds = [kind for kind, _, _ in whole]
    assert (kinds[0], kinds.count("epoch"), kinds[-1]) == ("progress", 1, "end")
    assert whole[0][2]["phase"] == "preparing"
    assert whole[-1][2] == {"state": "succeeded", "model": run["model"], "error": None}
    assert list(events(service, run["id"], last_event_id=-1)) == whole
    assert list(events(service, run["id"], last_event_id=1)) == whole[2:]
    assert list(events(service, run["id"], last_event_id=len(whole) - 2)) == whole[-1:]


def test_a_browser_that_asks_on_behind_the_end_is_told_to_stop(service: Service, run: dict[str, Any]) -> None:
    *_, (kind, end, _) = events(service, run["id"])
    answer = service.http.get(f"/train/{run['id']}/events", headers={"Last-Event-ID": str(end)})
    assert (kind, answer.status_code, answer.content) == ("end", 204, b"")


def test_many_watchers_of_a_run_see_the_same_events(service: Service) -> None:
    run = service.train(**{**SMALL_SPEC, "epochs": 20})

    def watch(last_event_id: int | None) -> list[Event]:
        return list(events(service, run, last_event_id))

    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(watch, [None] * 15 + [2] * 5))
    assert all(other == seen[0] for other in seen[:15])
    assert all(other == seen[0][3:] for other in seen[15:])
    assert [data["epoch"] for kind, _, data in seen[0] if kind == "epoch"] == list(range(1, 21))


def test_a_long_run_sends_progress_every_second_until_it_is_cancelled(service: Service) -> None:
    """Of a busy machine a while is looked for in which it can."""
    run = service.train(**LONG_SPEC)
    service.wait_for_state(run, "running")
    arrivals: list[float] = []
    steps: list[int] = []
    for kind, _, data in events(service, run):
        if kind == "progress" and data["phase"] == "training":
            arrivals.append(time.monotonic())
            steps.append(data["step"])
        if len(steps) >= 10 and np.median(np.diff(arrivals[-10:])) < 1.0:
            break
    assert kind == "progress", "it came that often before the end"
    assert steps == sorted(set(steps))
    assert service.http.post(f"/train/{run}/cancel").status_code == 202
    wait_for(lambda: not service.trainers(), SOON_SECONDS)
    ended = service.get(f"/train/{run}")
    assert (ended["state"], ended["model"]) == ("cancelled", None)
    assert ended["progress"]["step"] > 0
    *_, (kind, _, end) = events(service, run)
    assert (kind, end) == ("end", {"state": "cancelled", "model": None, "error": None})


def test_a_running_runs_events_have_a_head_and_their_connection_goes_on(service: Service) -> None:
    run = service.train(**LONG_SPEC)
    service.wait_for_state(run, "running")
    with httpx2.Client(base_url=service.url, limits=httpx2.Limits(max_connections=1)) as one:
        head = one.head(f"/train/{run}/events")
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert one.get("/healthz", timeout=SOON_SECONDS).json() == {"status": "ok"}
    service.http.post(f"/train/{run}/cancel")


def test_a_queued_run_has_its_position_and_can_be_cancelled(service: Service) -> None:
    first = service.train(**LONG_SPEC)
    service.wait_for_state(first, "running")
    second, third = service.train(**SMALL_SPEC), service.train(**LONG_SPEC)
    assert [service.get(f"/train/{run}")["queue_position"] for run in (first, second, third)] == [None, 1, 2]
    service.http.post(f"/train/{second}/cancel")
    assert service.get(f"/train/{third}")["queue_position"] == 1
    service.http.post(f"/train/{first}/cancel")
    service.wait_for_state(third, "running")
    assert service.ended(second)["state"] == "cancelled"


def test_only_an_ended_run_can_be_deleted(service: Service) -> None:
    running = service.train(**LONG_SPEC)
    service.wait_for_state(running, "running")
    queued = service.train(**LONG_SPEC)
    for run, state in ((running, "running"), (queued, "queued")):
        assert f"is {state}; cancel it first" in problem(service.http.delete(f"/train/{run}"), 409)
    service.http.post(f"/train/{running}/cancel")
    assert service.http.delete(f"/train/{running}").status_code == 204  # while its trainer may still be ending
    service.wait_for_state(queued, "running")
    assert running not in [item["id"] for item in service.get("/train")["runs"]]


def test_runs_are_listed_newest_first_in_pages(service: Service, run: dict[str, Any]) -> None:
    runs = service.get("/train?limit=100")["runs"]
    assert [item["created_at"] for item in runs] == sorted((item["created_at"] for item in runs), reverse=True)
    first, second = service.get("/train?limit=1"), service.get("/train?limit=1&offset=1")
    assert first["next_offset"] == 1
    assert [first["runs"][0]["id"], second["runs"][0]["id"]] == [item["id"] for item in runs[:2]]
    assert service.get(f"/train?limit=1&offset={len(runs) - 1}")["next_offset"] is None


def test_a_run_cannot_be_cancelled_once_its_model_is_published(service: Service) -> None:
    run = service.train(**SMALL_SPEC)
    wait_for(lambda: any(model["run"] == run for model in service.get("/models")["models"]))
    assert "has ended (succeeded)" in problem(service.http.post(f"/train/{run}/cancel"), 409)
    assert service.ended(run)["state"] == "succeeded"


def test_a_cancelled_run_keeps_every_epoch_that_it_reported(service: Service) -> None:
    run = service.train(**{**SMALL_SPEC, "epochs": 1000, "batch_size": 100})
    wait_for(lambda: len(service.get(f"/train/{run}")["history"]) > 2)
    service.http.post(f"/train/{run}/cancel")

    def streamed() -> list[int]:
        return [data["epoch"] for kind, _, data in events(service, run) if kind == "epoch"]

    wait_for(lambda: [epoch["epoch"] for epoch in service.get(f"/train/{run}")["history"]] == streamed(), SOON_SECONDS)
    cancelled = service.get(f"/train/{run}")
    assert cancelled["created_at"] <= cancelled["started_at"] <= cancelled["ended_at"]


def test_runs_are_counted_by_how_they_ended(service: Service, run: dict[str, Any]) -> None:
    network = [{"type": "flatten"}, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    diverging = {"network": network, "loss": "mean_squared_error", "optimizer": {"type": "sgd", "learning_rate": 10}}
    failing, cancelled = service.train(**diverging), service.train(**SMALL_SPEC)
    assert service.http.post(f"/train/{cancelled}/cancel").status_code == 202
    assert [service.ended(each)["state"] for each in (failing, cancelled)] == ["failed", "cancelled"]
    counted = re.findall(r'^inkling_runs{state="(\w+)"} ([\d.]+)$', service.http.get("/metrics").text, re.MULTILINE)
    runs = service.get("/train?limit=100")["runs"]
    listed = Counter(each["state"] for each in runs)
    assert {run["state"], "failed", "cancelled"} == listed.keys()
    assert {state: float(count) for state, count in counted} == {"queued": 0, "running": 0, **listed}
    for states in (["queued"], ["failed"], ["succeeded"], ["failed", "cancelled"]):
        of_these = service.get(f"/train?limit=100&state={'&state='.join(states)}")["runs"]
        assert of_these == [each for each in runs if each["state"] in states]


def test_an_ended_run_can_be_deleted_and_its_model_stays(service: Service, run: dict[str, Any]) -> None:
    """The last test here that looks at the run."""
    path = f"/train/{run['id']}"
    deleted = service.http.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, gone in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/cancel"), ("DELETE", path)):
        problem(service.http.request(method, gone), 404)
    assert run["id"] not in [item["id"] for item in service.get("/train")["runs"]]
    assert service.get(f"/models/{run['model']}")["run"] == run["id"]


def test_the_first_start_trains_the_quick_preset_by_itself(tmp_path: Path, with_model: FirstModel) -> None:
    with serving(with_model(tmp_path), "api") as service:
        (first,) = service.get("/train")["runs"]
        assert (first["name"], first["state"]) == ("quick", "succeeded")
        assert service.get("/models/default")["id"] == first["model"]
        assert service.get(f"/models/{first['model']}")["scores"]["accuracy"] >= 0.98
