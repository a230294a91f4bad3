"""What a worker does beside training: it shows that it lives, takes over the runs of the dead, and sweeps."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from app import claims
from app.checkpoints import Checkpoints
from app.database import UNAVAILABLE
from app.heartbeats import Heartbeats, Watch
from app.schemas import WorkerInfo
from app.settings import Settings

SWEEP_SECONDS = 3600.0
_NO_BEATS = -1  # of a worker that died before it had a row, or whose row is gone

_log = logging.getLogger(__name__)


class Busy(Protocol):
    """The runs that a process really works on."""

    runs: set[str]

    def abandon(self) -> None: ...


class Upkeep(threading.Thread):
    """One round every heartbeat, until told to stop."""

    def __init__(
        self,
        executor: str,
        place: WorkerInfo,
        worker: Busy,
        heartbeats: Heartbeats,
        checkpoints: Checkpoints,
        settings: Settings,
    ) -> None:
        super().__init__(name="upkeep", daemon=True)
        self._executor, self._place, self._worker = executor, place, worker
        self._heartbeats, self._checkpoints, self._settings = heartbeats, checkpoints, settings
        self._watch = Watch(settings.dead_seconds)
        self._unattended: set[str] = set()
        self._swept_at: float | None = None
        self._serving = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        self._join()
        while not self._stopping.wait(self._settings.heartbeat_seconds):
            self._do(self._beat)
            for duty in (self._bury, self._attend, self._sweep) if self._serving.is_set() else ():
                self._do(duty)

    def attend_to_queue(self) -> None:
        """The queue is open by now; until then it could only show that it lives."""
        self._serving.set()

    def stop(self) -> None:
        """The others need not wait until this worker looks dead."""
        self._stopping.set()
        self._do(lambda: self._heartbeats.leave(self._executor))

    def _do(self, duty: Callable[[], None]) -> None:
        try:
            duty()
        except UNAVAILABLE as error:
            self._watch.forget()
            _log.warning("the database does not answer: %s", error.args[0])
        except Exception:  # noqa: BLE001 - a worker without upkeep would live on as one of the dead
            _log.exception("upkeep failed")

    def _join(self) -> None:
        self._do(lambda: self._heartbeats.join(self._executor, **self._place.model_dump()))

    def _beat(self) -> None:
        if not self._heartbeats.beat(self._executor):
            _log.warning("the other workers took this one for dead; what it was training is theirs")
            self._worker.abandon()
            self._join()

    def _bury(self) -> None:
        silent = dict.fromkeys(claims.holders(), _NO_BEATS)
        counts = {**silent, **self._heartbeats.counts()}
        counts.pop(self._executor, None)
        for executor in self._watch.dead(counts, time.monotonic()):
            _log.warning("worker %s is dead; its run goes on elsewhere", executor)
            claims.take_over(executor)
            if not claims.begun_by(executor):  # else it could not be handed on, on a full disk say
                self._heartbeats.leave(executor)

    def _attend(self) -> None:
        """A run that counts as this worker's, but that nobody here trains, goes back into the queue.

        Its end could not be written, on a full disk say. Seen twice, so that it is none just begun or ended.
        """
        unattended = set(claims.begun_by(self._executor)) - self._worker.runs
        for run in unattended & self._unattended:
            _log.warning("run %s was left behind; it is queued again", run)
            claims.give_back(run, self._executor)
        self._unattended = unattended

    def _sweep(self) -> None:
        if self._swept_at is not None and time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return
        for run in claims.ended(self._checkpoints.runs()):  # cancelled while no worker had them
            self._checkpoints.delete(run)
        claims.prune(self._settings.progress_days)
        self._swept_at = time.monotonic()
