"""A machine's workers: each trains in its own place, survives its trainer, and sweeps what is old."""

import asyncio
import re
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from app.checkpoints import Checkpoints
from app.claims import Recorder
from app.devices import CPU, Device
from app.run_queue import empty_snapshot
from app.schemas import RunEnd, WorkerInfo
from app.slots import Slot
from app.worker import Worker
from tests.models import FIRST_RUN, FirstModel
from tests.processes import LONG_SPEC, SMALL_SPEC, SOON_SECONDS, Service, parent, send, serving, wait_for

BEGUN = """echo '{"kind": "process", "data": {"id": '$$'}}'"""


def test_workers_on_one_machine_have_slots_of_their_own_and_train_at_once(
    tmp_path: Path, with_model: FirstModel
) -> None:
    with serving(with_model(tmp_path), INKLING_WORKERS="2") as service:
        runs = [service.train(**LONG_SPEC) for _ in range(2)]
        wait_for(lambda: len(service.trainers()) == 2)
        workers = [service.wait_for_state(run, "running")["worker"] for run in runs]
        assert {worker["slot"] for worker in workers} == {0, 1}
        for run in runs:
            assert service.http.post(f"/train/{run}/cancel").json()["state"] == "cancelled"
        wait_for(lambda: not service.trainers(), SOON_SECONDS)


def test_a_training_that_gets_no_more_memory_fails_with_the_numbers_and_its_worker_goes_on(
    tmp_path: Path, with_model: FirstModel
) -> None:
    with serving(with_model(tmp_path)) as service:
        run = service.train(**LONG_SPEC)
        wait_for(lambda: ((service.get(f"/train/{run}")["progress"] or {}).get("phase")) == "training")
        (trainer,) = service.trainers()
        (worker,) = service.pids("app.worker")
        resource.prlimit(trainer, resource.RLIMIT_AS, (1, 1))
        error = service.ended(run)["error"]
        assert re.search(r"ran out of memory|may be out of memory: the process held \d\.\d+ GB", error), error
        assert service.pids("app.worker") == [worker]
        assert service.ended(service.train(**SMALL_SPEC))["state"] == "succeeded"


def test_one_process_loads_jax_for_every_run_and_another_does_when_it_dies_even_with_a_run_in_hand(
    tmp_path: Path, with_model: FirstModel
) -> None:
    with serving(with_model(tmp_path)) as service:
        assert service.ended(service.train(**SMALL_SPEC))["state"] == "succeeded"
        loaded = service.pids("app.trainer")
        run = service.train(**LONG_SPEC)
        wait_for(lambda: bool(service.trainers()))
        assert [parent(trainer) for trainer in service.trainers()] == loaded
        assert service.http.post(f"/train/{run}/cancel").status_code == 202  # and what the run has started ends
        wait_for(lambda: not set(loaded) & set(service.pids("app.trainer")), SOON_SECONDS)
        wait_for(lambda: bool(service.pids("app.trainer")), SOON_SECONDS)
        service.kill("app.trainer")
        assert service.ended(service.train(**SMALL_SPEC))["state"] == "succeeded"

        wait_for(lambda: len(service.pids("app.trainer")) == 1)  # the run's own has gone
        (waiting,) = service.pids("app.trainer")
        send([waiting], signal.SIGSTOP)
        run = service.train(**SMALL_SPEC)
        service.wait_for_state(run, "running")
        time.sleep(0.5)  # by then it is handed on, and nobody can tell
        send([waiting], signal.SIGKILL)
        assert service.ended(run)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("""echo '{"kind": "end", "data": {"state": "succeeded"}}'""", "succeeded"),
        (f"{BEGUN}; kill -KILL $$", "failed: the training process ended by signal SIGKILL"),
    ],
)
def test_the_log_tells_when_a_run_begins_and_how_it_ends(
    checkpoints: Checkpoints,
    script: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.worker.TRAINER", ("sh", "-c", f"read spec; {script}"))
    worker = Worker(checkpoints, Slot(0, "host/0", Device(CPU, {}), sys.stdin))
    recorder = Recorder(WorkerInfo(host="host", slot=0, device=CPU), empty_snapshot())

    async def attempt() -> None:
        await worker._attempt("7f3a", {}, recorder)
        following = await worker._next_trainer()
        with suppress(ProcessLookupError):
            following.kill()
        await following.wait()

    with caplog.at_level("INFO"):
        asyncio.run(attempt())
    began, ended = (record.getMessage() for record in caplog.records if "7f3a" in record.getMessage())
    assert began == "run 7f3a begins, attempt 1"
    assert ended.startswith(f"run 7f3a {told}")


@pytest.mark.parametrize(
    ("script", "ends"),
    [
        # in the middle of a message
        (f'{BEGUN}; printf \'{{"kind": "pro\'; kill -KILL $$', ["ended by signal SIGKILL"]),
        # before it begins the run, so that another may
        ("kill -KILL $$", [None, None, None, None, "ended by signal SIGKILL"]),
        # told to stop, say with all of a service's processes: the run begins again, but not without end
        ("kill -TERM $$", [None, None, None, None, "ended its training process, by SIGTERM, 5 times"]),
    ],
)
def test_a_signal_that_ends_a_trainer(checkpoints: Checkpoints, script: str, ends: list[str | None]) -> None:
    worker = Worker(checkpoints, Slot(0, "host/0", Device(CPU, {}), sys.stdin))
    place = WorkerInfo(host="host", slot=0, device=CPU)

    async def supervised() -> RunEnd | None:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        trainer = await asyncio.create_subprocess_exec("sh", "-c", script, **pipes)
        return await worker._supervise(trainer, Recorder(place, empty_snapshot()))

    for error in ends:
        end = asyncio.run(supervised())
        assert end is None if error is None else end is not None and error in str(end.error)


def test_the_events_of_a_run_that_ended_long_ago_are_pruned_and_its_history_stays(
    tmp_path: Path, with_model: FirstModel
) -> None:
    with serving(with_model(tmp_path), "api") as service:
        before = service.get(f"/train/{FIRST_RUN}")
        assert len(lines_of(service, FIRST_RUN, "event: progress")) > 1
    soon = {"INKLING_PROGRESS_DAYS": "0.000001", "INKLING_HEARTBEAT_SECONDS": "0.2"}
    with serving(tmp_path, **soon) as service:
        wait_for(lambda: not lines_of(service, FIRST_RUN, "event: progress"))
        assert len(lines_of(service, FIRST_RUN, "event: epoch")) == len(before["history"])
        assert service.get(f"/train/{FIRST_RUN}") == before


def lines_of(service: Service, run: str, line: str) -> list[str]:
    return [found for found in service.http.get(f"/train/{run}/events").text.splitlines() if found == line]
