"""python -m app.worker [--lifeline]: claims runs and supervises the trainer, one child process a run.

The child owns the accelerator and may crash or be ended without harm here; when this process dies, it ends too.
"""

import asyncio
import contextlib
import fcntl
import itertools
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from app import claims, logs
from app.checkpoints import Checkpoints
from app.database import UNAVAILABLE, Database, persisting, retrying
from app.devices import Device, device, gpus, places
from app.heartbeats import Heartbeats
from app.lifeline import STOPPED, SUPERSEDED, end_with_parent
from app.schemas import RunEnd, RunState, WorkerInfo
from app.settings import Settings
from app.upkeep import Upkeep

TRAINER = (sys.executable, "-m", "app.trainer")
STOP_SECONDS = 7.0  # for the last checkpoint; the whole stop takes less than 10
START_SECONDS = 600.0  # that a worker waits for its database

_log = logging.getLogger(__name__)


def main() -> None:
    settings = Settings()
    logs.configure("worker", settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    slot = claim_slot(settings)
    database = Database(settings.database)
    retrying(database.migrate, seconds=START_SECONDS)
    checkpoints, heartbeats = Checkpoints(database), Heartbeats(database)
    place = WorkerInfo(host=socket.gethostname(), slot=slot.number, device=slot.device.name)
    worker = Worker(checkpoints, slot)
    upkeep = Upkeep(slot.executor, place, worker, heartbeats, checkpoints, settings)
    upkeep.start()
    claims.serve(settings.database, slot.executor, place, worker.train)
    upkeep.attend_to_queue()
    _log.info("slot %d, on %s, waits for runs", slot.number, slot.device.name)
    stop.wait()
    worker.stop()
    upkeep.stop()
    _log.info("stopped")
    os._exit(0)


class NoPlaceError(RuntimeError):
    """Every GPU of the machine has its worker."""


class Slot(NamedTuple):
    """A worker's place on this machine; a worker that takes a dead one's place takes up its run."""

    number: int
    executor: str
    device: Device
    lock: TextIO  # held while it is open


def claim_slot(settings: Settings) -> Slot:
    """The first slot that no living worker holds. Raises NoPlaceError where each needs a GPU and all have one."""
    found = gpus()
    count = places(found, settings.devices_per_worker)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    for number in itertools.count() if count is None else range(count):
        lock = (settings.data_dir / f"worker-{number}.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Slot(number, _executor(lock, number), device(found, number, settings.devices_per_worker), lock)
    raise NoPlaceError(f"all {len(found)} GPUs of this machine have a worker; INKLING_DEVICES_PER_WORKER says how many")


def _executor(lock: TextIO, number: int) -> str:
    """The name of the slot among those of all machines, made when it is first claimed."""
    lock.seek(0)
    if not (name := lock.read().strip()):
        name = f"{socket.gethostname()}/{number}/{secrets.token_hex(4)}"
        lock.write(name)
        lock.flush()
    return name


class Worker:
    """Trains one run at a time."""

    def __init__(self, checkpoints: Checkpoints, slot: Slot) -> None:
        self.runs: set[str] = set()  # those that this process has begun, one of them in training
        self._checkpoints, self._slot = checkpoints, slot
        self._turn = asyncio.Lock()  # the queue's limit does not hold for a run that is taken up again
        self._trainer: asyncio.subprocess.Process | None = None
        self._stopping = threading.Event()

    async def train(self, run: str, spec: dict[str, Any], recorder: claims.Recorder) -> RunEnd:
        """Trains until the run has an end.

        A process that woke after its run was taken over may have begun a newer attempt: this one is begun again then,
        as long as the run is this worker's.
        """
        self.runs.add(run)
        try:
            async with self._turn:
                while True:
                    await recorder.save()  # raises if the run is another worker's
                    if end := await self._attempt(run, spec, recorder):
                        return end
        finally:
            self.runs.discard(run)

    async def _attempt(self, run: str, spec: dict[str, Any], recorder: claims.Recorder) -> RunEnd | None:
        attempt = await persisting(lambda: self._checkpoints.begin(run))
        self._trainer = await asyncio.create_subprocess_exec(
            *TRAINER,
            run,
            str(attempt),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(self._slot.device),
            start_new_session=True,
        )
        superseded = False
        try:
            end = await self._supervise(self._trainer, spec, recorder)
            superseded = end is None
            return end
        finally:
            _kill(self._trainer)
            await self._trainer.wait()
            self._trainer = None  # its process id may be another's from now on
            if not superseded and not self._stopping.is_set():
                with contextlib.suppress(*UNAVAILABLE):  # what is left is swept up later
                    await asyncio.to_thread(self._checkpoints.delete, run, attempt)

    async def _supervise(
        self, trainer: asyncio.subprocess.Process, spec: dict[str, Any], recorder: claims.Recorder
    ) -> RunEnd | None:
        """None where the attempt is not the run's newest."""
        assert trainer.stdin is not None and trainer.stdout is not None, "both are pipes"
        trainer.stdin.write(json.dumps(spec).encode() + b"\n")
        memory = _PeakMemory(trainer.pid)
        async for line in trainer.stdout:
            message = json.loads(line)
            if message["kind"] == "end":
                return RunEnd.model_validate(message["data"])
            memory.look()
            await recorder.record(message["kind"], message["data"])
        status = await trainer.wait()
        if status == SUPERSEDED:
            return None
        if self._stopping.is_set() or status == STOPPED:
            await asyncio.Event().wait()  # the run is the next worker's, and this process is about to end
        end = RunEnd(state=RunState.FAILED, error=_crash(status, memory.bytes))
        _log.error("%s", end.error)
        return end

    def abandon(self) -> None:
        """Ends what is being trained: it is another worker's by now."""
        if self._trainer:
            _kill(self._trainer)

    def stop(self) -> None:
        """Lets the trainer write a last checkpoint; what was begun waits in the queue again, none the worse."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        if trainer := self._trainer:
            with contextlib.suppress(ProcessLookupError):
                trainer.terminate()
            while trainer.returncode is None and time.monotonic() < deadline:
                time.sleep(0.02)
        if trainer and trainer.returncode == 0:  # it had its end already, which is being written down
            while self.runs and time.monotonic() < deadline:
                time.sleep(0.02)
        self.abandon()
        with contextlib.suppress(*UNAVAILABLE):  # then the others find this worker dead
            for run in tuple(self.runs):
                claims.give_back(run, self._slot.executor)


def _kill(trainer: asyncio.subprocess.Process) -> None:
    """With all that it has started, such as a download."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)


def _environment(device: Device) -> dict[str, str]:
    """The trainer may use the worker's devices, and takes of a GPU's memory only what it needs."""
    return {**os.environ, **device.environment, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class _PeakMemory:
    """The most bytes that a process was seen to have resident; Linux tells."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")

    def look(self) -> None:
        with contextlib.suppress(OSError, IndexError):
            self.bytes = 1024 * int(self._status.read_text().partition("VmHWM:")[2].split()[0])


# The kernel's way when a machine has no memory left, and XLA's when it is given none.
_MEMORY_SIGNALS = (signal.SIGKILL, signal.SIGABRT)


def _crash(status: int, peak_bytes: int) -> str:
    if status >= 0:
        return f"the training process ended with exit status {status}"
    said = f"the training process ended by signal {signal.Signals(-status).name}"
    if -status not in _MEMORY_SIGNALS:
        return said
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{said}; the machine may be out of memory: the process held {peak_bytes / 1e9:.2f} GB, "
        f"the machine has {machine_bytes / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    if "--lifeline" in sys.argv:
        end_with_parent()
    main()
