"""python -m app.worker [--lifeline]: claims runs and supervises their trainer, a child process.

The child, or rather its fork for each run, owns the accelerator and may crash or be ended without harm here; when this
process dies, they end too.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from app import claims, logs
from app.checkpoints import Checkpoints
from app.crashes import PeakMemory, describe_crash
from app.database import UNAVAILABLE, Database, NewerDatabaseError, persisting, retrying
from app.heartbeats import Heartbeats
from app.lifeline import FORKS, STOPPED, SUPERSEDED, end_with_parent
from app.run_queue import MAX_ATTEMPTS, prepare
from app.schemas import RunEnd, RunState, WorkerInfo
from app.settings import Settings
from app.slots import Slot, claim_slot
from app.stop_signals import STOP_SIGNALS, StopSignals
from app.upkeep import Pulse, Upkeep

TRAINER = (sys.executable, "-m", "app.trainer")
STOP_SECONDS = 7.0  # for the last checkpoint
LEAVE_SECONDS = 9.0  # for the whole stop
START_SECONDS = 600.0  # that a worker waits for its database

_log = logging.getLogger(__name__)


def main() -> None:
    settings = Settings()
    logs.configure("worker", settings)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))  # there is nothing to hand back yet
    slot = claim_slot(settings)
    database = Database(settings.database)
    try:
        retrying(database.migrate, seconds=START_SECONDS)
    except NewerDatabaseError as error:
        _log.error("%s", error)
        sys.exit(1)
    checkpoints, heartbeats = Checkpoints(database), Heartbeats(database)
    place = WorkerInfo(host=socket.gethostname(), slot=slot.number, device=slot.device.name)
    worker = Worker(checkpoints, slot)
    pulse = Pulse(slot.executor, place, heartbeats, worker.abandon, settings.heartbeat_seconds)
    pulse.start()
    retrying(lambda: prepare(settings.database), seconds=START_SECONDS)
    stop = StopSignals()
    claims.serve(settings.database, slot.executor, place, worker.train)
    Upkeep(slot.executor, heartbeats, checkpoints, settings).start()
    _log.info("slot %d, on %s, waits for runs", slot.number, slot.device.name)
    stop.wait()
    _end_within(LEAVE_SECONDS)
    worker.stop()
    pulse.stop()
    _log.info("stopped")
    os._exit(0)


def _end_within(seconds: float) -> None:
    """Whatever a database that is away holds up: the others take over what could not be handed back."""
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()


class Worker:
    """Trains one run at a time."""

    def __init__(self, checkpoints: Checkpoints, slot: Slot) -> None:
        self._checkpoints, self._slot = checkpoints, slot
        self._turn = asyncio.Lock()  # the queue counts a run from its begin on, which may be late on a busy machine
        self._trainer: asyncio.subprocess.Process | None = None
        self._waiting: asyncio.subprocess.Process | None = None  # a trainer for the next run, from the first one on
        self._preparation: asyncio.Task[None] | None = None
        self._abandoned: asyncio.subprocess.Process | None = None
        self._stopping = threading.Event()
        self._has_end = False  # of what is being trained; it may not be written down yet
        self._endings = 0  # of this run's trainers, by others or before they had begun it

    async def train(self, run: str, spec: dict[str, Any], recorder: claims.Recorder) -> RunEnd:
        """Trains until the run has an end.

        A process that woke after its run was taken over may have begun a newer attempt: this one is begun again then,
        as long as the run is this worker's.
        """
        async with self._turn:
            self._has_end, self._endings = False, 0
            while True:
                await recorder.save()  # raises if the run is another worker's
                if end := await self._attempt(run, spec, recorder):
                    return end

    async def _attempt(self, run: str, spec: dict[str, Any], recorder: claims.Recorder) -> RunEnd | None:
        attempt = await persisting(lambda: self._checkpoints.begin(run))
        _log.info("run %s begins, attempt %d", run, attempt)
        trainer = self._trainer = await self._next_trainer()
        assert trainer.stdin is not None, "it is a pipe"
        trainer.stdin.write(json.dumps({"run": run, "attempt": attempt, "spec": spec}).encode() + b"\n")
        try:
            end = await self._supervise(trainer, recorder)
        except asyncio.CancelledError:
            _log.info("run %s cancelled", run)
            raise
        finally:
            self._trainer = None
            if self._has_end and FORKS:
                self._waiting = trainer
            else:
                _kill(trainer)
                self._preparation = asyncio.create_task(self._prepare(after=trainer))
        if end:
            _log.info("run %s %s%s", run, end.state, f": {end.error}" if end.error else "")
            if not self._stopping.is_set():
                with contextlib.suppress(*UNAVAILABLE):  # what is left is swept up later
                    await asyncio.to_thread(self._checkpoints.delete, run, attempt)
        return end

    async def _next_trainer(self) -> asyncio.subprocess.Process:
        waits = self._waiting is not None and self._waiting.returncode is None
        if self._preparation is None or (self._preparation.done() and not waits):
            self._preparation = asyncio.create_task(self._prepare())
        await asyncio.shield(self._preparation)
        assert self._waiting is not None, "it has been prepared"
        trainer, self._waiting = self._waiting, None
        return trainer

    async def _prepare(self, after: asyncio.subprocess.Process | None = None) -> None:
        """In a task of its own: a run may be cancelled even at its end, and a start that is cancelled hangs asyncio."""
        if after:
            await after.wait()  # until then it has the device
        self._waiting = await asyncio.create_subprocess_exec(
            *TRAINER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._slot.device.environment},
            start_new_session=True,
        )
        if self._stopping.is_set():  # it hears of nothing before it has loaded all
            _kill(self._waiting)

    async def _supervise(self, trainer: asyncio.subprocess.Process, recorder: claims.Recorder) -> RunEnd | None:
        """None where the attempt is not the run's newest, was given up, or was told to stop."""
        assert trainer.stdout is not None, "it is a pipe"
        memory, has_begun = PeakMemory(trainer.pid), not FORKS
        async for line in trainer.stdout:
            if not line.endswith(b"\n"):  # it was killed as it wrote
                break
            message = json.loads(line)
            match message["kind"]:
                case "process":
                    memory, has_begun = PeakMemory(message["data"]["id"]), True
                case "end":
                    self._has_end = True
                    return RunEnd.model_validate(message["data"])
                case kind:
                    memory.look()
                    await recorder.record(kind, message["data"])
        status = await trainer.wait()
        if self._stopping.is_set():
            await asyncio.Event().wait()  # the run is the next worker's, and this process is about to end
        if status == SUPERSEDED or trainer is self._abandoned:
            return None
        error = describe_crash(status, memory.bytes)
        is_stopped = status in (STOPPED, -signal.SIGTERM)  # by an operator, say, or for want of memory on the machine
        if is_stopped or not has_begun:
            self._endings += 1
            if self._endings < MAX_ATTEMPTS:
                return None
        if is_stopped:
            error = f"something other than this service ended its training process, by SIGTERM, {MAX_ATTEMPTS} times"
        return RunEnd(state=RunState.FAILED, error=error)

    def abandon(self) -> None:
        """Ends what is being trained: it is another worker's by now."""
        if trainer := self._trainer:
            self._abandoned = trainer
            _kill(trainer)

    def stop(self) -> None:
        """Lets the trainer write a last checkpoint; what was begun waits in the queue again, none the worse."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        if trainer := self._trainer:
            with contextlib.suppress(ProcessLookupError):
                trainer.terminate()
            while trainer is self._trainer and trainer.returncode is None and time.monotonic() < deadline:
                time.sleep(0.02)
        while self._has_end and claims.active() and time.monotonic() < deadline:  # until it is written down
            time.sleep(0.02)
        self.abandon()
        if (waiting := self._waiting) and waiting.returncode is None:
            _kill(waiting)
        with contextlib.suppress(*UNAVAILABLE):  # then the others find this worker dead
            for run in claims.active():
                claims.give_back(run, self._slot.executor, failed=False)


def _kill(trainer: asyncio.subprocess.Process) -> None:
    """With all that it has started, such as a download."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)


if __name__ == "__main__":
    if "--lifeline" in sys.argv:
        end_with_parent()
    main()
