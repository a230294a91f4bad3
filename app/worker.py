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
import signal
import sys
import threading
from pathlib import Path
from typing import NamedTuple, TextIO

from app import jobs, logs
from app.checkpoints import Checkpoints
from app.lifeline import end_with_parent
from app.schemas import RunEnd, RunState
from app.settings import Settings
from model.spec import TrainSpec

TRAINER = (sys.executable, "-m", "app.trainer")

_log = logging.getLogger(__name__)


def main() -> None:
    settings = Settings()
    logs.configure("worker", settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    slot = claim_slot(settings.data_dir)
    checkpoints = Checkpoints(settings.registry_path)
    worker = Worker(checkpoints)
    jobs.serve(settings.queue_path, f"local/{slot.number}", worker.train)
    for run in jobs.ended(checkpoints.runs()):  # cancelled while no worker had them
        checkpoints.delete(run)
    _log.info("slot %d waits for runs", slot.number)
    stop.wait()
    worker.stop()


class Slot(NamedTuple):
    """A worker's place on this machine; a worker that takes a dead one's place takes up its run."""

    number: int
    lock: TextIO  # held while it is open


def claim_slot(data_dir: Path) -> Slot:
    """The first slot that no living worker holds."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        lock = (data_dir / f"worker-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Slot(number, lock)
        except BlockingIOError:
            lock.close()
    raise AssertionError("the count never ends")


class Worker:
    """Trains one run at a time."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._turn = asyncio.Lock()  # the queue's limit does not hold for a run that is taken up again
        self._trainer: asyncio.subprocess.Process | None = None
        self._run: str | None = None
        self._stopping = threading.Event()

    async def train(self, run: str, spec: TrainSpec, record: jobs.Record) -> RunEnd:
        async with self._turn:
            self._run = run
            self._trainer = await asyncio.create_subprocess_exec(
                *TRAINER,
                run,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
            try:
                return await self._supervise(self._trainer, spec, record)
            finally:
                _kill(self._trainer)
                await self._trainer.wait()
                self._run = self._trainer = None  # its process id may be another's from now on
                if not self._stopping.is_set():
                    await asyncio.to_thread(self._checkpoints.delete, run)

    async def _supervise(self, trainer: asyncio.subprocess.Process, spec: TrainSpec, record: jobs.Record) -> RunEnd:
        assert trainer.stdin is not None and trainer.stdout is not None, "both are pipes"
        trainer.stdin.write(spec.model_dump_json().encode() + b"\n")
        end = await _relay(trainer.stdout, record)
        if end is None:
            status = await trainer.wait()
            if self._stopping.is_set():
                await _forever()  # the run is the next worker's, and this process is about to end
            end = RunEnd(state=RunState.FAILED, error=_crash(status))
            _log.error("%s", end.error)
        return end

    def stop(self) -> None:
        """Ends the trainer and this process; what was training waits in the queue again, none the worse."""
        self._stopping.set()
        run = self._run
        if self._trainer:
            _kill(self._trainer)
        if run:
            jobs.give_back(run)
        _log.info("stopped")
        os._exit(0)


def _kill(trainer: asyncio.subprocess.Process) -> None:
    """With all that it has started, such as a download."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)


async def _forever() -> None:
    await asyncio.Event().wait()


def _environment() -> dict[str, str]:
    """The trainer may use every device, and takes of a GPU's memory only what it needs."""
    return {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


async def _relay(messages: asyncio.StreamReader, record: jobs.Record) -> RunEnd | None:
    """Records the trainer's messages; returns how it says that the run ended, or None when it ends without a word."""
    async for line in messages:
        message = json.loads(line)
        if message["kind"] == "end":
            return RunEnd.model_validate(message["data"])
        await record(message["kind"], message["data"])
    return None


def _crash(status: int) -> str:
    reason = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    hint = "; the machine may be out of memory" if status == -signal.SIGKILL else ""
    return f"the training process ended {reason}{hint}"


if __name__ == "__main__":
    if "--lifeline" in sys.argv:
        end_with_parent()
    main()
