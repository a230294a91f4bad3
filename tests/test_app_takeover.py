"""What becomes of a run whose worker dies, sleeps, stops or loses its database: it ends once, with the same bits."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.checkpoints import Checkpoints
from app.database import Database
from model.data import Mnist
from model.spec import TrainSpec
from tests import trainings
from tests.models import FIRST_RUN
from tests.postgresql import Postgresql
from tests.processes import LONG_SPEC, SMALL_SPEC, SOON_SECONDS, Service, send, serving, told_of, wait_for, working

# Seconds of training, in many chunks.
SPEC = {**SMALL_SPEC, "batch_size": 50, "epochs": 12}
QUICK = {
    "INKLING_HEARTBEAT_SECONDS": "0.5",
    "INKLING_DEAD_SECONDS": "2",
    "INKLING_CHECKPOINT_SECONDS": "0.2",
}


class Cluster:
    """An API, and workers that share nothing with it or each other but the database."""

    def __init__(self, api: Service, folder: Path, url: str, database: Database) -> None:
        self.api, self.folder, self._url = api, folder, url
        self._workers = count()
        self.checkpoints = Checkpoints(database)

    def worker(self, folder: Path | None = None, **settings: str) -> AbstractContextManager[Service]:
        """On a machine of its own, or one that had a worker before."""
        folder = folder or self.folder / f"worker-{next(self._workers)}"
        return working(folder, INKLING_DATABASE_URL=self._url, **{**QUICK, **settings})

    def put_to_sleep(self, sleepers: list[int]) -> None:
        """When none of them holds a lock: on SQLite, one that sleeps in the middle of a write holds up everybody."""

        def sleep() -> bool:
            send(sleepers, signal.SIGSTOP)
            wait_for(lambda: all("T (stopped)" in told_of(pid, "State") for pid in sleepers))
            if all(map(can_be_written, self.folder.glob("*.db"))):
                return True
            send(sleepers, signal.SIGCONT)
            return False

        wait_for(sleep)

    def saved_run(self, spec: dict[str, Any] = SPEC) -> str:
        """A run that is being trained, and has a checkpoint."""
        run = self.api.train(**spec)
        wait_for(lambda: self.checkpoints.load(run) is not None)
        return run

    def file_of(self, ended: dict[str, Any]) -> bytes:
        """The one model that the run has published."""
        assert ended["state"] == "succeeded", ended
        models = [model for model in self.api.get("/models")["models"] if model["run"] == ended["id"]]
        assert [model["id"] for model in models] == [ended["model"]]
        return self.api.http.get(f"/models/{ended['model']}/download").content


@contextmanager
def cluster_on(url: str, folder: Path) -> Iterator[Cluster]:
    with serving(folder / "api", "api", INKLING_DATABASE_URL=url) as api, closing(Database(url)) as database:
        api.http.post(f"/train/{FIRST_RUN}/cancel")
        yield Cluster(api, folder, url, database)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp(request.param)
    url = f"sqlite:///{folder / 'inkling.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    with cluster_on(url, folder) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(mnist: Mnist) -> bytes:
    """The model of a run that was left alone."""
    return trainings.undisturbed(TrainSpec.model_validate(SPEC), mnist)


def test_a_dead_workers_run_goes_on_at_another_from_its_checkpoint(cluster: Cluster, undisturbed: bytes) -> None:
    with cluster.worker() as first:
        run = cluster.saved_run()
        wait_for(lambda: cluster.api.get(f"/train/{run}")["worker"] is not None)
        worker = cluster.api.get(f"/train/{run}")["worker"]
        with cluster.worker():
            first.process.kill()
            ended = cluster.api.ended(run)
    assert (worker["slot"], worker["device"]) == (0, "CPU")
    assert [epoch["epoch"] for epoch in ended["history"]] == list(range(1, SPEC["epochs"] + 1))
    assert cluster.file_of(ended) == undisturbed
    assert cluster.checkpoints.runs() == []


def test_a_worker_that_slept_through_its_replacement_does_no_harm(cluster: Cluster, undisturbed: bytes) -> None:
    with cluster.worker() as first:
        run = cluster.saved_run()
        sleepers = first.pids()
        cluster.put_to_sleep(sleepers)
        with cluster.worker():
            ended = cluster.api.ended(run)
        send(sleepers, signal.SIGCONT)
        wait_for(lambda: not first.trainers(), SOON_SECONDS)
        assert cluster.file_of(cluster.api.ended(run)) == cluster.file_of(ended) == undisturbed
        assert cluster.checkpoints.runs() == []
        assert cluster.api.ended(cluster.api.train(**SMALL_SPEC))["state"] == "succeeded"  # by the one that woke


def test_a_worker_that_wakes_while_its_replacement_trains_gives_way(cluster: Cluster, undisturbed: bytes) -> None:
    with cluster.worker() as first:
        run = cluster.saved_run()
        sleepers = first.pids()
        cluster.put_to_sleep(sleepers)
        with cluster.worker() as second:
            wait_for(lambda: bool(second.trainers()))
            send(sleepers, signal.SIGCONT)
            wait_for(lambda: not first.trainers(), SOON_SECONDS)
            assert cluster.file_of(cluster.api.ended(run)) == undisturbed


def can_be_written(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


def test_a_stopped_worker_saves_a_last_checkpoint_and_hands_its_run_on(cluster: Cluster, undisturbed: bytes) -> None:
    with cluster.worker() as first:
        run = cluster.saved_run()
        wait_for(lambda: cluster.api.get(f"/train/{run}")["history"] != [])
        before = cluster.checkpoints.load(run)
        first.process.terminate()
        assert first.process.wait(SOON_SECONDS) == 0
    assert cluster.checkpoints.load(run) != before
    left = cluster.api.get(f"/train/{run}")
    assert left["state"] == "queued"
    with cluster.worker():
        wait_for(lambda: cluster.api.get(f"/train/{run}")["started_at"] != left["started_at"])
        kept = cluster.api.get(f"/train/{run}")["history"][: len(left["history"])]
        assert kept == left["history"]  # before the next trainer has told anything
        assert cluster.file_of(cluster.api.ended(run)) == undisturbed


def test_a_run_that_kills_its_worker_five_times_fails_and_says_so(cluster: Cluster) -> None:
    run = cluster.api.train(**LONG_SPEC)
    folder = cluster.folder / "deadly"
    for _ in range(5):
        with cluster.worker(folder) as worker:
            wait_for(lambda worker=worker: bool(worker.trainers()))
            worker.process.kill()
    with cluster.worker(folder):
        ended = cluster.api.ended(run)
        assert (ended["state"], ended["error"]) == ("failed", "its worker died 5 times while training it")
        assert cluster.api.ended(cluster.api.train(**SMALL_SPEC))["state"] == "succeeded"


def test_a_database_that_was_away_costs_nothing_but_time(tmp_path: Path, postgresql: Postgresql) -> None:
    dead_seconds = 4.0  # a busy machine may take a second to run a thread
    settings = {"INKLING_HEARTBEAT_SECONDS": "0.5", "INKLING_DEAD_SECONDS": str(dead_seconds)}
    with (
        cluster_on(postgresql.new_database(), tmp_path) as cluster,
        cluster.worker(**settings) as first,
        cluster.worker(**settings) as second,
    ):
        run = cluster.saved_run(LONG_SPEC)
        trainers = first.trainers() + second.trainers()
        postgresql.kill()
        refused = cluster.api.http.post("/train", json=SMALL_SPEC)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), refused.text
        assert cluster.api.http.get("/healthz").status_code == 200
        time.sleep(dead_seconds + 0.5)
        postgresql.start()
        wait_for(lambda: cluster.api.http.get(f"/train/{run}").status_code == 200)
        time.sleep(dead_seconds + 0.5)
        before = cluster.api.get(f"/train/{run}")["progress"]
        wait_for(lambda: cluster.api.get(f"/train/{run}")["progress"]["step"] > before["step"])
        assert set(trainers) == {*first.trainers(), *second.trainers()}
        assert before["note"] is None
        assert cluster.api.http.post(f"/train/{run}/cancel").status_code == 202
        assert cluster.api.ended(cluster.api.train(**SMALL_SPEC))["state"] == "succeeded"


@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
def test_a_stop_of_its_worker_is_no_failure_of_a_run(cluster: Cluster) -> None:
    run = cluster.api.train(**LONG_SPEC)
    before = attempts(cluster.folder, run)
    for _ in range(2):
        with cluster.worker(cluster.folder / "stopped") as worker:
            wait_for(lambda worker=worker: bool(worker.trainers()))
            assert cluster.api.get(f"/train/{run}")["state"] == "running"
            assert attempts(cluster.folder, run) == before + 1
        assert attempts(cluster.folder, run) == before
    assert cluster.api.http.post(f"/train/{run}/cancel").status_code == 202


def attempts(folder: Path, run: str) -> int:
    """Those that count for the queue, which gives a run up after a few."""
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        row = connection.execute("SELECT recovery_attempts FROM workflow_status WHERE workflow_uuid = ?", (run,))
        return int(row.fetchone()[0])
