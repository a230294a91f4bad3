"""What a worker does beside training: it shows that it lives, takes over the runs of the dead, and sweeps."""

import logging
import math
import threading
import time
from collections.abc import Callable

from app import claims
from app.checkpoints import Checkpoints
from app.database import RETRY_SECONDS, UNAVAILABLE
from app.heartbeats import Heartbeats, Watch
from app.schemas import WorkerInfo
from app.settings import Settings
from model.files import prune

SWEEP_SECONDS = 3600.0
COMPILED_BYTES = 1_000_000_000  # of compiled code that are kept: that of some thousand networks
_NO_BEATS = -1  # of a worker that died before it had a row, or whose row is gone

_log = logging.getLogger(__name__)


class Pulse(threading.Thread):
    """A beat every so many seconds, until told to stop.

    In a thread of its own: whatever holds up the rest, such as DBOS waiting for a database that is away, makes no
    living worker look dead.
    """

    def __init__(
        self, executor: str, place: WorkerInfo, heartbeats: Heartbeats, abandon: Callable[[], None], seconds: float
    ) -> None:
        """abandon: ends what is being trained, which is another worker's."""
        super().__init__(name="pulse", daemon=True)
        self._executor, self._place, self._heartbeats = executor, place, heartbeats
        self._abandon, self._seconds = abandon, seconds
        self._stopping = threading.Event()

    def run(self) -> None:
        while not (_done(self._join) or self._stopping.wait(RETRY_SECONDS)):
            pass
        while not self._stopping.wait(self._seconds):
            _done(self._beat)

    def stop(self) -> None:
        """The others need not wait until this worker looks dead."""
        self._stopping.set()
        _done(lambda: self._heartbeats.leave(self._executor))

    def _join(self) -> None:
        self._heartbeats.join(self._executor, **self._place.model_dump())

    def _beat(self) -> None:
        if not self._heartbeats.beat(self._executor) and not self._stopping.is_set():
            _log.warning("the other workers took this one for dead; what it was training is theirs")
            self._abandon()
            self._join()


class Upkeep(threading.Thread):
    """One round every heartbeat for as long as the process lives; the queue is open."""

    def __init__(self, executor: str, heartbeats: Heartbeats, checkpoints: Checkpoints, settings: Settings) -> None:
        super().__init__(name="upkeep", daemon=True)
        self._executor, self._settings = executor, settings
        self._heartbeats, self._checkpoints = heartbeats, checkpoints
        self._watch = Watch(settings.dead_seconds)
        self._unattended: set[str] = set()
        self._swept_at = -math.inf

    def run(self) -> None:
        while True:
            time.sleep(self._settings.heartbeat_seconds)
            if not _done(self._bury):
                self._watch.forget()
            _done(self._attend)
            _done(self._sweep)

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
        if time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return
        for run in claims.ended(self._checkpoints.runs()):  # cancelled while no worker had them
            self._checkpoints.delete(run)
        claims.prune(self._settings.progress_days)
        # Whoever is about to read what goes here compiles it again.
        prune((self._settings.cache_dir / "compiled").glob("*-cache"), COMPILED_BYTES)
        self._swept_at = time.monotonic()


def _done(duty: Callable[[], None]) -> bool:
    """Whether it was; if not, the log says why."""
    try:
        duty()
        return True
    except UNAVAILABLE as error:
        _log.warning("the database does not answer: %s", error.args[0])
    except Exception:  # noqa: BLE001 - a worker without upkeep would live on as one of the dead
        _log.exception("upkeep failed")
    return False
