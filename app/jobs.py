"""The durable queue of runs and their progress streams: the only file that speaks to DBOS.

`Jobs` is the API's side: it enqueues, lists, cancels and reads. `serve` is the worker's: it claims runs and records
what the given function reports about them. A run is a DBOS workflow with the run's id; everything crosses as JSON.
"""

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dbos import DBOS, DBOSClient, WorkflowHandleAsync, WorkflowSerializationFormat, WorkflowStatus

from app.database import TIMEOUT_SECONDS, use_wal
from app.errors import QueueFullError, RunEndedError, RunNotFoundError
from app.schemas import Run, RunEnd, RunList, RunState, RunSummary
from model.spec import TrainSpec

QUEUE = "training"
WORKFLOW = "train"
STREAM = "progress"
SNAPSHOT = "snapshot"
APPLICATION_VERSION = "1"  # constant: DBOS' default changes with the code, and a deploy would strand running jobs
POLL_SECONDS = 0.2
SNAPSHOT_SECONDS = 0.5
MAX_ATTEMPTS = 5

_ACTIVE = {RunState.QUEUED, RunState.RUNNING}
_STATES = {
    "ENQUEUED": RunState.QUEUED,
    "DELAYED": RunState.QUEUED,
    "PENDING": RunState.RUNNING,
    "CANCELLED": RunState.CANCELLED,
}


class Event(NamedTuple):
    """One entry of a run's progress stream; offset: its place in it, from 0."""

    offset: int
    kind: Literal["progress", "epoch"]
    data: dict[str, Any]


def prepare(path: Path) -> None:
    """Creates or migrates the queue's database; safe to call from several processes at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
        use_wal(connection)
    connection.close()
    DBOS.migrate(system_database_url=_url(path))


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


class Jobs:
    """What the API does with runs. Every method raises RunNotFoundError for an id that is no run's."""

    def __init__(self, path: Path, *, max_queued_runs: int) -> None:
        prepare(path)
        self._client = DBOSClient(system_database_url=_url(path))
        self._max_queued_runs = max_queued_runs
        self._feeds: dict[str, _Feed] = {}
        self._enqueuing = asyncio.Lock()  # the count is of this moment until the run is in the queue

    def close(self) -> None:
        self._client.destroy()

    async def enqueue(self, spec: TrainSpec, *, run: str | None = None) -> Run:
        """Queues a run; the same id twice is one run. Raises QueueFullError."""
        async with self._enqueuing:
            waiting = len(await self._waiting())
            if waiting >= self._max_queued_runs:
                raise QueueFullError(waiting)
            await self._enqueue(run_id := run or new_run_id(), spec)
        return await self.run(run_id)

    async def _enqueue(self, run: str, spec: TrainSpec) -> None:
        _: WorkflowHandleAsync[Any] = await self._client.enqueue_async(
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": run,
                "app_version": APPLICATION_VERSION,
                "serialization_type": WorkflowSerializationFormat.PORTABLE,
                "attributes": {"created_at": datetime.now(UTC).isoformat()},
            },
            spec.model_dump(mode="json"),
        )

    async def enqueue_first(self, spec: TrainSpec) -> None:
        """Queues a run unless one is under way; API processes that start together queue a single one."""
        statuses = await self._client.list_workflows_async(name=WORKFLOW, load_input=False)
        if not any(_state(status) in _ACTIVE for status in statuses):
            await self.enqueue(spec, run=f"first-{len(statuses)}")

    async def run(self, run: str) -> Run:
        status = await self._status(run)
        snapshot = await (self._replay if _state(status) == RunState.CANCELLED else self._snapshot)(run)
        return Run(**_summary(status, await self._waiting(), snapshot), history=snapshot["history"])

    async def runs(self, *, limit: int, offset: int) -> RunList:
        """A page of runs, newest first."""
        statuses = await self._client.list_workflows_async(
            name=WORKFLOW, sort_desc=True, limit=limit + 1, offset=offset
        )
        page = sorted(statuses[:limit], key=lambda status: (status.created_at, status.workflow_id), reverse=True)
        waiting = await self._waiting()
        return RunList(
            runs=[RunSummary(**_summary(item, waiting, await self._snapshot(item.workflow_id))) for item in page],
            next_offset=offset + limit if len(statuses) > limit else None,
        )

    async def cancel(self, run: str) -> Run:
        """Raises RunEndedError for a run that has ended."""
        state = _state(await self._status(run))
        if state not in _ACTIVE:
            raise RunEndedError(run, state)
        await self._client.cancel_workflow_async(run)
        cancelled = await self.run(run)
        if cancelled.state != RunState.CANCELLED:
            raise RunEndedError(run, cancelled.state)
        return cancelled

    async def events(self, run: str, *, offset: int = 0) -> AsyncIterator[Event]:
        """The run's progress from an offset on, as it is written, until the run ends."""
        feed = self._feeds.get(run)
        if feed is None:
            feed = self._feeds[run] = _Feed(
                self._client.read_stream_async(run, STREAM, polling_interval_sec=POLL_SECONDS)
            )
        feed.watchers += 1
        try:
            async for event in feed.follow(offset):
                yield event
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                self._feeds.pop(run, None)
                feed.close()

    async def end(self, run: str) -> RunEnd | None:
        """How the run ended; None while it goes on."""
        end = _end(await self._status(run))
        return None if end.state in _ACTIVE else end

    def release_watchers(self) -> None:
        """Ends every stream where it is; its reader may resume at another process."""
        for feed in self._feeds.values():
            feed.close()

    async def _status(self, run: str) -> WorkflowStatus:
        statuses = await self._client.list_workflows_async(name=WORKFLOW, workflow_ids=[run])
        if not statuses:
            raise RunNotFoundError(run)
        return statuses[0]

    async def _waiting(self) -> list[str]:
        """The ids of queued runs, next first."""
        statuses = await self._client.list_workflows_async(
            name=WORKFLOW, status="ENQUEUED", load_input=False, load_output=False
        )
        return [status.workflow_id for status in sorted(statuses, key=_queue_order)]

    async def _snapshot(self, run: str) -> dict[str, Any]:
        return await self._client.get_event_async(run, SNAPSHOT, timeout_seconds=0) or _no_snapshot()

    async def _replay(self, run: str) -> dict[str, Any]:
        """The snapshot of a cancelled run, whose worker could save no last one, from its whole stream."""
        snapshot = await self._snapshot(run)
        async for event in self.events(run):
            _add(snapshot, event.kind, event.data)
        return snapshot


class _Feed:
    """The one reader of a run's stream in this process; whoever watches the run is served from what it has read."""

    def __init__(self, values: AsyncIterator[Any]) -> None:
        self.watchers = 0
        self._events: list[Event] = []
        self._ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read(values))

    async def follow(self, offset: int) -> AsyncIterator[Event]:
        while offset < len(self._events) or not self._ended:
            for event in self._events[offset:]:
                yield event
                offset += 1
            if offset >= len(self._events) and not self._ended:  # behind the end: a reader may be ahead of this process
                await self._news.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading  # raises what ended the reading early

    def close(self) -> None:
        self._reading.cancel()

    async def _read(self, values: AsyncIterator[Any]) -> None:
        try:
            async for value in values:
                self._events.append(Event(len(self._events), value["kind"], value["data"]))
                self._announce()
        finally:
            self._ended = True
            self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _no_snapshot() -> dict[str, Any]:
    return {"started_at": None, "progress": None, "history": []}


def _add(snapshot: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
    """A run that was begun again repeats epochs: the last report of each holds."""
    if kind == "progress":
        snapshot["progress"] = data
    else:
        earlier = [epoch for epoch in snapshot["history"] if epoch["epoch"] < data["epoch"]]
        snapshot["history"] = [*earlier, data]


def new_run_id() -> str:
    """Ids sort by the time they were made, in microseconds."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(3)}"


def _queue_order(status: WorkflowStatus) -> tuple[int, str]:
    return status.created_at or 0, status.workflow_id


def _state(status: WorkflowStatus) -> RunState:
    return _end(status).state


def _end(status: WorkflowStatus) -> RunEnd:
    if status.status == "SUCCESS":
        return RunEnd.model_validate(status.output)
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return RunEnd(state=RunState.FAILED, error=f"its worker died {MAX_ATTEMPTS + 1} times while training it")
    if status.status == "ERROR":
        return RunEnd(state=RunState.FAILED, error=f"the worker failed: {status.error}")
    return RunEnd(state=_STATES[status.status])


def _summary(status: WorkflowStatus, waiting: list[str], snapshot: dict[str, Any]) -> dict[str, Any]:
    assert status.input is not None and status.attributes is not None, "enqueue gives every run both"
    spec = TrainSpec.model_validate(status.input["args"][0])
    run, end = status.workflow_id, _end(status)
    return {
        "id": run,
        "name": spec.name,
        "state": end.state,
        "queue_position": waiting.index(run) + 1 if run in waiting else None,
        "created_at": status.attributes["created_at"],
        "started_at": snapshot["started_at"] or _time(status.dequeued_at),
        "ended_at": _time(status.completed_at),
        "spec": spec,
        "progress": snapshot["progress"],
        "model": end.model,
        "error": end.error,
    }


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


Record = Callable[[str, dict[str, Any]], Awaitable[None]]
Train = Callable[[str, TrainSpec, Record], Awaitable[RunEnd]]


def serve(path: Path, executor: str, train: Train) -> None:
    """Starts claiming runs, one at a time, in background threads; a restarted executor takes up its own again.

    train(run, spec, record) trains a run; `await record(kind, data)` adds an event to its stream. A cancelled run's
    train is cancelled within a second.
    """
    prepare(path)
    DBOS(
        config={
            "name": "inkling",
            "system_database_url": _url(path),
            "executor_id": executor,
            "application_version": APPLICATION_VERSION,
            "log_level": "WARNING",
        }
    )

    @DBOS.step(name="train_step", preemptible=True)
    async def train_step(run: str, spec: dict[str, Any]) -> dict[str, Any]:
        recorder = _Recorder()
        end = await train(run, TrainSpec.model_validate(spec), recorder.record)
        await recorder.save()
        return end.model_dump(mode="json")

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_ATTEMPTS)
    async def train_workflow(spec: dict[str, Any]) -> dict[str, Any]:
        assert DBOS.workflow_id is not None, "a workflow has an id"
        return await train_step(DBOS.workflow_id, spec)

    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_SECONDS)


def give_back(run: str) -> None:
    """Puts a run that this worker has begun back into the queue; this is no attempt that failed."""
    DBOS.resume_workflow(run, queue_name=QUEUE)


def ended(runs: list[str]) -> list[str]:
    """Those of the runs that no worker will go on with."""
    if not runs:
        return []
    statuses = DBOS.list_workflows(workflow_ids=runs, load_input=False, load_output=False)
    waiting = {status.workflow_id for status in statuses if _STATES.get(status.status) in _ACTIVE}
    return [run for run in runs if run not in waiting]


class _Recorder:
    """Writes a run's events to its stream, and what they add up to beside it, so that a look needs no replay."""

    def __init__(self) -> None:
        # The queue forgets when a run was started once it is cancelled.
        self._snapshot = {**_no_snapshot(), "started_at": datetime.now(UTC).isoformat()}
        self._saved = 0.0

    async def record(self, kind: str, data: dict[str, Any]) -> None:
        await DBOS.write_stream_async(STREAM, {"kind": kind, "data": data})
        _add(self._snapshot, kind, data)
        if time.monotonic() - self._saved >= SNAPSHOT_SECONDS:
            await self.save()

    async def save(self) -> None:
        await DBOS.set_event_async(SNAPSHOT, self._snapshot)
        self._saved = time.monotonic()
