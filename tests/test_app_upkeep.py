"""What the torture test has found, each by itself: a worker shows that it lives, a stop revives no run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.database import Database
from app.heartbeats import Heartbeats
from app.metrics import Metrics
from app.predictor import Predictor
from app.registry import Registry
from app.schemas import Progress, RunEnd, RunState, WorkerInfo
from app.settings import Settings
from app.upkeep import Pulse
from app.worker import STOP_SECONDS
from tests.processes import ROOT, SMALL_SPEC, SOON_SECONDS, serving, told_of, wait_for
from tests.published import publish

PLACE = WorkerInfo(host="host", slot=0, device="CPU")


def test_a_worker_shows_that_it_lives_until_it_stops(database: Database) -> None:
    heartbeats, abandoned = Heartbeats(database), threading.Event()
    pulse = Pulse("host/0", PLACE, heartbeats, abandoned.set, seconds=0.05)
    pulse.start()
    wait_for(lambda: heartbeats.counts().get("host/0", 0) > 5)
    assert not abandoned.is_set()
    pulse.stop()
    pulse.join(SOON_SECONDS)
    assert heartbeats.counts() == {}


def test_a_worker_that_was_taken_for_dead_gives_up_its_run_and_joins_again(database: Database) -> None:
    heartbeats, abandoned = Heartbeats(database), threading.Event()
    pulse = Pulse("host/0", PLACE, heartbeats, abandoned.set, seconds=0.05)
    pulse.start()
    wait_for(lambda: "host/0" in heartbeats.counts())
    heartbeats.leave("host/0")
    assert abandoned.wait(SOON_SECONDS)
    wait_for(lambda: "host/0" in heartbeats.counts())
    pulse.stop()
    pulse.join(SOON_SECONDS)


class Leaving(Heartbeats):
    """Its worker is told to stop in the middle of a beat."""

    stop: Callable[[], None]

    def beat(self, executor: str) -> bool:
        self.stop()
        return super().beat(executor)


def test_a_worker_that_stops_in_the_middle_of_a_beat_leaves_for_good(database: Database) -> None:
    heartbeats, abandoned = Leaving(database), threading.Event()
    pulse = Pulse("host/0", PLACE, heartbeats, abandoned.set, seconds=0.05)
    heartbeats.stop = pulse.stop
    pulse.run()
    assert (heartbeats.counts(), abandoned.is_set()) == ({}, False)


def test_a_run_that_is_cancelled_while_its_worker_stops_stays_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        run = service.get("/train")["runs"][0]["id"]  # the service's own first
        wait_for(lambda: service.get(f"/train/{run}")["progress"] is not None)
        (worker,), (trainer,) = service.pids("app.worker"), service.trainers()
        os.kill(trainer, signal.SIGSTOP)  # the worker waits for its last checkpoint
        wait_for(lambda: "T (stopped)" in told_of(trainer, "State"))
        os.kill(worker, signal.SIGTERM)
        wait_for(lambda: bool(int(told_of(trainer, "ShdPnd"), 16) & 1 << (signal.SIGTERM - 1)))  # it passes that on
        os.kill(worker, signal.SIGSTOP)  # so long that it has no time left to hear of the cancelling
        assert service.http.post(f"/train/{run}/cancel").status_code == 202
        time.sleep(STOP_SECONDS)
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: worker not in service.pids("app.worker"))
        assert service.ended(service.train(**SMALL_SPEC))["state"] == "succeeded"
        assert service.get(f"/train/{run}")["state"] == "cancelled"


# Told to stop, it has its end already, and takes a while to exit.
ENDING_TRAINER = """
read spec
trap 'echo "$END"' TERM
while :; do
    echo "$PROGRESS"
    sleep 0.2
done
"""


def test_a_run_that_ends_while_its_worker_stops_is_not_queued_again(tmp_path: Path) -> None:
    progress = Progress(phase="evaluating", epoch=1, epochs=1, step=1, steps=1)
    end = RunEnd(state=RunState.SUCCEEDED, model="0123456789ab")
    messages = {
        "PROGRESS": json.dumps({"kind": "progress", "data": progress.model_dump(mode="json")}),
        "END": json.dumps({"kind": "end", "data": end.model_dump(mode="json")}),
    }
    script = f"from app import worker; worker.TRAINER = ('sh', '-c', {ENDING_TRAINER!r}); worker.main()"
    environment = {**os.environ, **messages, "INKLING_DATA_DIR": str(tmp_path)}
    with serving(tmp_path, "api") as service:
        run = service.get("/train")["runs"][0]["id"]
        with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment) as worker:
            wait_for(lambda: service.get(f"/train/{run}")["progress"] is not None)
            worker.terminate()
        assert service.get(f"/train/{run}")["state"] == "succeeded"


class Interrupted(Registry):
    """Loses its database between two looks, once."""

    broken = True

    def parameters(self, name: str) -> tuple[str, bytes]:
        if self.broken:
            self.broken = False
            raise sa.exc.OperationalError("SELECT", {}, Exception("the server closed the connection"))
        return super().parameters(name)


def test_a_default_that_could_not_be_read_in_an_outage_is_read_after_it(database: Database) -> None:
    registry = Interrupted(database)
    model = publish(registry, "run", 0.9)
    predictor = Predictor(registry, Settings(), Metrics())
    with pytest.raises(sa.exc.OperationalError):
        predictor.refresh()
    predictor.refresh()
    assert predictor.default.id == model
