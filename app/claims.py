"""The worker's side of the durable queue: claims runs, records what their training reports, hands them on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, _core
from dbos._dbos import _get_dbos_instance

from app.database import RETRY_SECONDS, UNAVAILABLE, persisting, queue_url
from app.run_queue import (
    APPLICATION_VERSION,
    MAX_ATTEMPTS,
    QUEUE,
    QUEUE_POLL_SECONDS,
    SNAPSHOT,
    STREAM,
    UNENDED,
    WORKFLOW,
    Snapshot,
    add_event,
    read_snapshots,
)
from app.schemas import RunEnd, WorkerInfo

SNAPSHOT_SECONDS = 0.5
CANCEL_POLL_SECONDS = 0.5  # DBOS looks once a second, which is all the time that a cancelled run has to end


class Recorder:
    """Writes a run's events to its stream, and what they add up to beside it, so that a look needs no replay.

    Raises DBOS' conflict error where the run is another worker's by now; while the database is away or its disk full,
    it waits, and with it the training.
    """

    def __init__(self, place: WorkerInfo, earlier: Snapshot) -> None:
        """earlier: the snapshot that another attempt has left."""
        # The queue forgets when a run was started once it is cancelled.
        started_at, worker = datetime.now(UTC).isoformat(), place.model_dump(mode="json")
        self._snapshot: Snapshot = {**earlier, "started_at": started_at, "worker": worker}
        self._saved = 0.0

    async def record(self, kind: str, data: dict[str, Any]) -> None:
        await _until_written(lambda: DBOS.write_stream_async(STREAM, {"kind": kind, "data": data}))
        add_event(self._snapshot, kind, data)
        if time.monotonic() - self._saved >= SNAPSHOT_SECONDS:
            await self.save()

    async def save(self) -> None:
        await _until_written(lambda: DBOS.set_event_async(SNAPSHOT, self._snapshot))
        self._saved = time.monotonic()


async def _until_written(write: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await write()
        except UNAVAILABLE:
            await asyncio.sleep(RETRY_SECONDS)


Train = Callable[[str, dict[str, Any], Recorder], Awaitable[RunEnd]]


def serve(url: str, executor: str, place: WorkerInfo, train: Train) -> None:
    """Starts claiming runs, one at a time, in background threads; a restarted executor takes up its own again.

    Its database is prepared. train(run, spec, recorder) trains a run; a cancelled run's is cancelled within a second.
    """
    _core._PREEMPTIBLE_POLL_INTERVAL_SEC = CANCEL_POLL_SECONDS
    DBOS(
        config={
            "name": "inkling",
            "system_database_url": queue_url(url),
            "executor_id": executor,
            "application_version": APPLICATION_VERSION,
            "log_level": logging.getLevelName(logging.getLogger("dbos").level),  # as app.logs has set it
        }
    )

    @DBOS.step(name="train_step", preemptible=True)
    async def train_step(run: str, spec: dict[str, Any]) -> dict[str, Any]:
        queue = _get_dbos_instance()._sys_db
        earlier = await persisting(lambda: read_snapshots(queue, [run]))
        recorder = Recorder(place, earlier[run])
        end = await train(run, spec, recorder)
        await recorder.save()
        return end.model_dump(mode="json")

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_ATTEMPTS - 1)  # DBOS does not count the first
    async def train_workflow(spec: dict[str, Any]) -> dict[str, Any]:
        assert DBOS.workflow_id is not None, "a workflow has an id"
        return await train_step(DBOS.workflow_id, spec)

    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=QUEUE_POLL_SECONDS)


def give_back(run: str, executor: str, *, failed: bool) -> None:
    """Puts a run that the worker has begun back into the queue; failed: whether this attempt counts.

    One that was cancelled or taken over meanwhile stays as it is; DBOS' own `resume_workflow` would revive it.
    """
    queue = _get_dbos_instance()._sys_db
    statuses = queue.tables.workflow_status
    begun = (statuses.c.workflow_uuid == run, statuses.c.status == "PENDING", statuses.c.executor_id == executor)
    attempts = statuses.c.recovery_attempts - (0 if failed else 1)
    waiting = {"status": "ENQUEUED", "owner_xid": None, "started_at_epoch_ms": None, "recovery_attempts": attempts}
    with queue.engine.begin() as connection:
        connection.execute(statuses.update().where(*begun).values(waiting))


def take_over(executor: str) -> None:
    """Puts what a dead worker has begun back into the queue, where it comes first."""
    DBOS._recover_pending_workflows([executor])


def begun_by(executor: str) -> list[str]:
    """The runs that count as this worker's."""
    begun = DBOS.list_workflows(status="PENDING", executor_id=executor, load_input=False, load_output=False)
    return [status.workflow_id for status in begun]


def active() -> set[str]:
    """The runs that this process works on, until their end is written down."""
    return set(_get_dbos_instance()._active_workflows_set.activeList())


def holders() -> set[str]:
    """The workers whom the runs in training count as theirs."""
    begun = DBOS.list_workflows(name=WORKFLOW, status="PENDING", load_input=False, load_output=False)
    return {status.executor_id for status in begun if status.executor_id}


def ended(runs: list[str]) -> list[str]:
    """Those of the runs that no worker will go on with."""
    if not runs:
        return []
    unended = DBOS.list_workflows(workflow_ids=runs, status=UNENDED, load_input=False, load_output=False)
    return list({*runs} - {status.workflow_id for status in unended})


def prune(days: float) -> None:
    """Deletes the progress streams of runs that ended longer ago, by the database's clock, which wrote when they did.

    DBOS itself keeps them as long as the run.
    """
    queue = _get_dbos_instance()._sys_db
    streams, statuses = queue.tables.streams, queue.tables.workflow_status
    before_ms = queue._now_ms_sql() - int(days * 86_400_000)
    old = sa.select(statuses.c.workflow_uuid).where(statuses.c.completed_at < before_ms)
    with queue.engine.begin() as connection:
        connection.execute(streams.delete().where(streams.c.workflow_uuid.in_(old)))
