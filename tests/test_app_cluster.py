"""Two API replicas and two workers that share nothing but a PostgreSQL database are one service."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.drawings import draw, encoded
from tests.postgresql import Postgresql, binaries
from tests.processes import LONG_SPEC, SMALL_SPEC, SOON_SECONDS, Service, send, serving, wait_for, working
from tests.streams import events


class Cluster(NamedTuple):
    """url: of its database."""

    replicas: list[Service]
    url: str


@pytest.fixture(scope="module")
def cluster(postgresql: Postgresql, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every process has a data folder of its own, as on its own machine."""
    url = postgresql.new_database()
    settings = {"INKLING_DATABASE_URL": url, "INKLING_MAX_QUEUED_RUNS_PER_USER": "1"}
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(tmp_path_factory.mktemp("api"), "api", **settings)) for _ in range(2)]
        for replica in replicas:
            assert replica.get("/healthz") == {"status": "ok"}
        assert [run["id"] for run in replicas[1].get("/train")["runs"]] == ["first-0"]  # one, though two have started
        replicas[0].http.post("/train/first-0/cancel")
        for _ in range(2):
            stack.enter_context(working(tmp_path_factory.mktemp("worker"), **settings))
        yield Cluster(replicas, url)


def test_what_one_replica_is_asked_for_all_know(cluster: Cluster) -> None:
    one, other = cluster.replicas
    run = other.ended(one.train(**SMALL_SPEC))
    assert run["state"] == "succeeded"
    assert run["worker"]["device"] == "CPU"
    second = one.ended(other.train(**{**SMALL_SPEC, "seed": 1}))
    assert one.get("/models") == other.get("/models")
    for asked, chosen in ((one, run["model"]), (other, second["model"])):
        assert asked.http.put("/models/default", json={"model": chosen}).status_code == 200
        for replica in cluster.replicas:
            wait_for(lambda replica=replica, chosen=chosen: answers(replica) == chosen, SOON_SECONDS)


def answers(replica: Service) -> str:
    """The model that names a digit there."""
    response = replica.http.post("/predict", content=encoded(draw(7)), headers={"Content-Type": "image/png"})
    return str(response.json().get("model"))


def test_a_dump_of_the_database_is_a_backup_of_the_whole(
    cluster: Cluster, postgresql: Postgresql, tmp_path: Path
) -> None:
    programs, dump, elsewhere = binaries(), tmp_path / "inkling.dump", postgresql.new_database()
    assert programs is not None
    subprocess.run([programs / "pg_dump", "--format=custom", f"--file={dump}", cluster.url], check=True)
    told = {path: cluster.replicas[0].get(path) for path in ("/models", "/train", "/evaluate")}
    subprocess.run([programs / "pg_restore", "--no-owner", f"--dbname={elsewhere}", dump], check=True)
    with serving(tmp_path / "data", "api", INKLING_DATABASE_URL=elsewhere) as other:
        assert {path: other.get(path) for path in told} == told
        assert answers(other) == answers(cluster.replicas[0])


def test_a_user_is_the_client_behind_the_balancer(cluster: Cluster) -> None:
    one, other = cluster.replicas

    def ask(replica: Service, client: str) -> Any:
        return replica.http.post("/train", json=LONG_SPEC, headers={"X-Forwarded-For": client})

    runs = []
    for replica in cluster.replicas:  # both workers have one to train
        runs.append(ask(replica, "203.0.113.1").json()["id"])
        replica.wait_for_state(runs[-1], "running")
    first, refused, second = ask(one, "203.0.113.1"), ask(other, "203.0.113.1"), ask(other, "203.0.113.2")
    assert [first.status_code, refused.status_code, second.status_code] == [202, 429, 202]
    assert [answer.json()["queue_position"] for answer in (first, second)] == [1, 2]
    for run in (second.json()["id"], first.json()["id"], *runs):
        assert one.http.post(f"/train/{run}/cancel").status_code == 202


def test_a_stream_goes_on_at_the_other_replica_when_its_own_dies(cluster: Cluster) -> None:
    dying, other = cluster.replicas
    run = dying.train(**LONG_SPEC)
    dying.wait_for_state(run, "running")
    seen = [number for _, number, _ in islice(events(dying, run), 5)]  # as they happen: there is no end to wait for
    assert seen == list(range(5))
    send(dying.pids(), signal.SIGKILL)
    assert [number for _, number, _ in islice(events(other, run, seen[-1]), 5)] == list(range(5, 10))
    assert other.http.post(f"/train/{run}/cancel").status_code == 202
    rest = other.http.get(f"/train/{run}/events", headers={"Last-Event-ID": "9"}).text
    assert rest.startswith(("event: progress\ndata:", "event: epoch\ndata:", "event: end\ndata:"))
    assert '"cancelled"' in rest.rpartition("event: end")[2]
