"""Who may queue how much, and change what: by key, or by address where there are no keys."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import FirstModel
from tests.problems import problem
from tests.processes import LONG_SPEC, ROOT, SMALL_SPEC, Service, serving, wait_for

KEYS = {"alice": "key of alice", "bob": "key of bob", "teacher": "key of teacher"}
SETTINGS = {
    "INKLING_API_KEYS": json.dumps(KEYS),
    "INKLING_PRIORITY_USERS": '["teacher"]',
    "INKLING_MAX_QUEUED_RUNS": "6",
    "INKLING_MAX_QUEUED_RUNS_PER_USER": "3",
}


def bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[user]}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel) -> Iterator[Service]:
    """A service with keys, its worker busy with a long run of bob's."""
    with serving(with_model(tmp_path_factory.mktemp("keyed")), **SETTINGS) as service:
        service.ready()
        run = service.http.post("/train", json=LONG_SPEC, headers=bearer("bob")).json()["id"]
        service.wait_for_state(run, "running")
        yield service


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nobody's"}, {"Authorization": "Basic a2V5"}])
def test_changing_anything_needs_a_key(keyed: Service, headers: dict[str, str]) -> None:
    run = keyed.get("/train")["runs"][0]["id"]
    model = keyed.get("/models")["models"][0]["id"]
    for method, path, body in (
        ("POST", "/train", SMALL_SPEC),
        ("POST", f"/train/{run}/cancel", None),
        ("DELETE", f"/train/{run}", None),
        ("PUT", "/models/default", {"model": model}),
        ("PUT", "/models/candidate", {"model": model, "shadow": True}),
        ("PUT", "/aliases/pens", {"model": model}),
        ("DELETE", "/aliases/pens", None),
        ("POST", "/models", {}),
        ("PATCH", f"/models/{model}", {"name": "mine"}),
        ("DELETE", f"/models/{model}", None),
    ):
        refused = keyed.http.request(method, path, json=body, headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), path
        assert refused.headers["content-type"] == "application/problem+json"
        assert "Authorization: Bearer KEY" in refused.json()["detail"]


def test_looking_and_predicting_need_none(keyed: Service) -> None:
    for path in ("/train", "/models", "/evaluate", "/presets", "/aliases", "/models/candidate"):
        assert keyed.http.get(path).status_code == 200
    seven = (ROOT / "static" / "seven.png").read_bytes()
    assert keyed.http.post("/predict", content=seven, headers={"Content-Type": "image/png"}).json()["digit"] == 7


def test_users_take_turns_within_their_limits_and_cancel_their_own(keyed: Service) -> None:
    def ask(user: str, **query: str) -> tuple[int, str]:
        answer = keyed.http.post("/train", json=SMALL_SPEC, headers=bearer(user), params=query)
        return answer.status_code, answer.json().get("id") or answer.json()["detail"]

    def runs_of(user: str, *states: str) -> list[str]:
        found = keyed.http.get("/train", params={"user": user, "state": list(states)}).json()["runs"]
        assert {run["user"] for run in found} <= {user}
        return [run["id"] for run in found]

    alices = [ask("alice")[1] for _ in range(3)]
    refused = keyed.http.post("/train", json=SMALL_SPEC, headers=bearer("alice"))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
    assert refused.json()["detail"].startswith("3 of your runs are waiting")
    assert ask("bob", priority="high") == (403, "only the users in INKLING_PRIORITY_USERS may train with high priority")

    bobs, teachers, last = ask("bob")[1], ask("teacher", priority="high")[1], ask("teacher", priority="low")[1]
    full = keyed.http.post("/train", json=SMALL_SPEC, headers=bearer("bob"))
    assert (full.status_code, full.headers["retry-after"]) == (503, "5")

    # bob's first turn is the run that is being trained
    line = [teachers, alices[0], alices[1], bobs, alices[2], last]
    assert [keyed.get(f"/train/{run}")["queue_position"] for run in line] == [1, 2, 3, 4, 5, 6]
    waits = [keyed.get(f"/train/{run}")["starts_in_seconds"] for run in line]
    assert waits == sorted(waits)
    assert waits[0] > 1.0  # the run that is being trained is a long one

    assert runs_of("alice") == alices[::-1]
    assert runs_of("bob", "queued") == [bobs]
    assert runs_of("nobody") == runs_of("alice", "running", "failed") == []

    foreign = keyed.http.post(f"/train/{alices[0]}/cancel", headers=bearer("bob"))
    assert "this run is another user's; only they" in problem(foreign, 403)
    assert keyed.http.post(f"/train/{alices[0]}/cancel", headers=bearer("alice")).status_code == 202
    assert keyed.http.post(f"/train/{bobs}/cancel", headers=bearer("teacher")).status_code == 202
    for run in (teachers, last, *alices[1:]):
        keyed.http.post(f"/train/{run}/cancel", headers=bearer("teacher"))
    wait_for(lambda: all(keyed.get(f"/train/{run}")["state"] == "cancelled" for run in line))


def test_without_keys_an_address_is_a_user_and_everybody_may_cancel(tmp_path: Path) -> None:
    with serving(tmp_path, INKLING_MAX_QUEUED_RUNS_PER_USER="1") as service:
        wait_for(lambda: bool(service.trainers()))
        run = service.train(**SMALL_SPEC)
        assert service.get(f"/train/{run}")["user"] is None
        assert service.get("/train?user=127.0.0.1")["runs"] == []
        assert service.http.post("/train", json=SMALL_SPEC).status_code == 429
        assert service.http.post(f"/train/{run}/cancel").status_code == 202
