"""What a worker does beside training: it shows that it lives, takes over the runs of the dead, and sweeps."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from app import claims
from app.checkpoints import Checkpoints
from app.database import RETRY_SECONDS, UNAVAILABLE
from app.heartbeats import Heartbeats, Watch
from app.schemas import WorkerInfo
from app.settings import Settings

SWEEP_SECONDS = 3600.0
_NO_BEATS = -1  # of a worker that died before it had a row, or whose row is gone

_log = logging.getLogger(__name__)


class Busy(Protocol):
    """What a worker does with the run that it trains."""

    def abandon(self) -> None: ...


class Upkeep(threading.Thread):
    """One round every heartbeat, until told to stop.

    The beat has a thread of its own: whatever holds up the rest, such as DBOS waiting for a database that is away,
    makes no living worker look dead.
    """

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
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        self._serving.wait()
        while not self._stopping.wait(self._settings.heartbeat_seconds):
            for duty in (self._bury, self._attend, self._sweep):
                if not self._do(duty):
                    self._watch.forget()

    def _keep_beating(self) -> None:
        while not self._do(self._join):
            self._stopping.wait(RETRY_SECONDS)
        while not self._stopping.wait(self._settings.heartbeat_seconds):
            self._do(self._beat)

    def attend_to_queue(self) -> None:
        """The queue is open by now; until then it could only show that it lives."""
        self._serving.set()

    def stop(self) -> None:
        """The others need not wait until this worker looks dead."""
        self._stopping.set()
        self._serving.set()
        self._do(lambda: self._heartbeats.leave(self._executor))

    def _do(self, duty: Callable[[], None]) -> bool:
        """Whether it was done."""
        try:
            duty()
            return True
        except UNAVAILABLE as error:
            _log.warning("the database does not answer: %s", error.args[0])
        except Exception:  # noqa: BLE001 - a worker without upkeep would live on as one of the dead
            _log.exception("upkeep failed")
        return False

    def _join(self) -> None:
        self._heartbeats.join(self._executor, **self._place.model_dump())

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
        unattended = set(claims.begun_by(self._executor)) - claims.active()
        for run in unattended & self._unattended:
            _log.warning("run %s was left behind; it is queued again", run)
            claims.give_back(run, self._executor, failed=True)
        self._unattended = unattended

    def _sweep(self) -> None:
        if self._swept_at is not None and time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return
        for run in claims.ended(self._checkpoints.runs()):  # cancelled while no worker had them
            self._checkpoints.delete(run)
        claims.prune(self._settings.progress_days)
        self._swept_at = time.monotonic()
