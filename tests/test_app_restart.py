"""What the service leaves when it is killed or told to end, and what it goes on from when it starts again."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.checkpoints import Checkpoints
from app.database import Database
from app.supervisor import Program, _Child
from model.data import Mnist
from model.spec import TrainSpec
from tests import trainings
from tests.models import FIRST_RUN, FirstModel
from tests.processes import LONG_SPEC, SMALL_SPEC, SOON_SECONDS, serving, wait_for, working
from tests.streams import events

SPEC = {**SMALL_SPEC, "batch_size": 100, "epochs": 24}
# The kernel gives a process' signal to any thread; the main thread sleeps meanwhile.
SIGNAL_OF_ANOTHER_THREAD = """
import signal, threading
from app.stop_signals import StopSignals
stop = StopSignals()
assert not stop.wait(0.0)
def hear(): signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Timer(0.3, hear).start()
assert stop.wait() and stop.wait(0.0)
"""


@pytest.fixture(scope="module")
def undisturbed(mnist: Mnist) -> bytes:
    """The model of a run that was left alone."""
    return trainings.undisturbed(TrainSpec.model_validate(SPEC), mnist)


def test_a_run_survives_kill_9_of_worker_and_api_and_gives_the_bits_of_one_that_was_left_alone(
    tmp_path: Path, database_url: str, checkpoints: Checkpoints, with_model: FirstModel, undisturbed: bytes
) -> None:
    data_dir = with_model(tmp_path / "data", database_url)
    with serving(data_dir, INKLING_DATABASE_URL=database_url, INKLING_CHECKPOINT_SECONDS="0.2") as service:
        run = service.train(**SPEC)
        wait_for(lambda: checkpoints.load(run) is not None)
        trainers = service.trainers()
        service.kill("app.worker")
        wait_for(lambda: not set(trainers) & set(service.trainers()), SOON_SECONDS)
        service.kill("app.main")
        wait_for(lambda: bool(service.pids("app.main")) and bool(service.pids("app.worker")))
        ended = service.ended(run)
        assert ended["state"] == "succeeded", ended
        assert ended["progress"]["note"].startswith("taken up again in epoch ")
        assert [model["run"] for model in service.get("/models")["models"]].count(run) == 1
        assert [epoch["epoch"] for epoch in ended["history"]] == list(range(1, SPEC["epochs"] + 1))
        assert checkpoints.load(run) is None
        assert service.http.get(f"/models/{ended['model']}/download").content == undisturbed


def checkpoints_of(data_dir: Path) -> Checkpoints:
    database = Database(f"sqlite:///{data_dir / 'inkling.db'}")
    database.migrate()
    return Checkpoints(database)


def test_a_run_whose_checkpoint_is_damaged_starts_over_and_says_so(tmp_path: Path, with_model: FirstModel) -> None:
    checkpoints = checkpoints_of(with_model(tmp_path))
    spec = {**SMALL_SPEC, "epochs": 10}
    with serving(tmp_path) as service:
        first = service.train(**LONG_SPEC)
        run = service.train(**spec)
        checkpoints.save(run, checkpoints.begin(run), b"damaged")
        service.http.post(f"/train/{first}/cancel")
        ended = service.ended(run)
        assert ended["state"] == "succeeded"
        assert ended["progress"]["note"] == "started over: the checkpoint is damaged: its SHA-256 is another"
        assert len(ended["history"]) == 10


def test_the_checkpoint_of_a_run_that_ended_without_its_worker_is_swept_at_the_next_start(
    tmp_path: Path, with_model: FirstModel
) -> None:
    checkpoints = checkpoints_of(with_model(tmp_path))
    with serving(tmp_path, "api") as service:
        waiting = service.train(**LONG_SPEC)
    checkpoints.save(FIRST_RUN, checkpoints.begin(FIRST_RUN), b"left")
    checkpoints.save(waiting, checkpoints.begin(waiting), b"needed")
    with working(tmp_path, INKLING_HEARTBEAT_SECONDS="0.5"):
        wait_for(lambda: checkpoints.load(FIRST_RUN) is None)
        assert checkpoints.load(waiting) is not None


def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path, with_model: FirstModel) -> None:
    with serving(with_model(tmp_path)) as service:
        run = service.train(**LONG_SPEC)
        service.wait_for_state(run, "running")
        stream = events(service, run)
        next(stream)
        service.process.terminate()
        assert all(kind != "end" for kind, _, _ in stream)  # nor is it cut off, which would raise here
        service.process.wait(SOON_SECONDS)


def test_a_signal_ends_a_download_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "PIP_INDEX_URL": address, "PIP_NO_INDEX": "0"}
        with serving(tmp_path / "data", INKLING_CACHE_DIR=str(tmp_path / "cache"), **nowhere) as service:
            wait_for(lambda: bool(service.pids("pip")))
            service.process.send_signal(signal.SIGINT)
            service.process.wait(SOON_SECONDS)
            wait_for(lambda: not service.pids(), SOON_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process_in_the_midst_of_a_run(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as service:
        service.train(**LONG_SPEC)
        wait_for(lambda: bool(service.trainers()))
        assert len(service.pids()) >= 4
        service.process.send_signal(number)
        service.process.wait(SOON_SECONDS)
        wait_for(lambda: not service.pids(), SOON_SECONDS)


def test_a_signal_ends_a_trainer_too_that_is_about_to_wait_for_the_next_run(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        wait_for(lambda: bool(service.trainers()))
        loaded = service.pids("app.trainer")
        service.cancel_runs()
        wait_for(lambda: bool(service.pids("app.trainer")) and not set(loaded) & set(service.pids("app.trainer")))
        service.process.terminate()
        service.process.wait(SOON_SECONDS)
        assert not service.pids()


def test_a_signal_that_the_kernel_gives_to_another_thread_is_heard() -> None:
    subprocess.run((sys.executable, "-c", SIGNAL_OF_ANOTHER_THREAD), check=True, timeout=SOON_SECONDS)


def test_a_program_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    program, elsewhere = tmp_path / "program", tmp_path / "elsewhere"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    child = _Child(Program("program", (str(program),), {}))
    with child.process as first:
        pass  # it ends by itself
    program.rename(elsewhere)
    child.keep_running()
    assert child.process is first
    elsewhere.rename(program)

    def is_started() -> bool:
        child.keep_running()
        return child.process is not first

    wait_for(is_started, SOON_SECONDS)
    with child.process:
        pass
