"""The API's side of the durable queue: runs are enqueued, listed, cancelled and watched.

A run is a DBOS workflow with the run's id; everything crosses as JSON. `app.claims` is the worker's side.
"""

import asyncio
import hashlib
import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from dbos import DBOSClient, WorkflowSerializationFormat, WorkflowStatus

from app.checkpoints import Checkpoints
from app.database import UNAVAILABLE, Database, persisting, queue_url
from app.errors import (
    KeyTakenError,
    QueueFullError,
    RunActiveError,
    RunEndedError,
    RunNotFoundError,
    TooManyRunsError,
    UnreadableRunError,
)
from app.feeds import Feeds
from app.heartbeats import Heartbeats
from app.outlooks import OUTLOOK_SECONDS, Outlooks
from app.registry import Registry, model_of
from app.run_queue import (
    APPLICATION_VERSION,
    QUEUE,
    STREAM_POLL_SECONDS,
    WORKFLOW,
    Snapshot,
    add_event,
    prepare,
    read_snapshots,
)
from app.scheduling import Place, Priority, next_rank
from app.schemas import Run, RunEnd, RunList, RunState, RunSummary
from app.settings import NOBODY, Settings
from app.statuses import (
    ACTIVE,
    CUT_SHORT,
    Outlook,
    count_by_state,
    end_of,
    newest_runs,
    read_events,
    read_line,
    state_of,
    summary,
)
from model.data import TRAIN_EXAMPLES, examples_left
from model.plan import estimate_seconds
from model.spec import TrainSpec

_RUN_ID = re.compile(r"[0-9a-z-]+")

_log = logging.getLogger(__name__)


class Jobs:
    """What the API does with runs. Every method raises RunNotFoundError for an id that is no run's.

    Those that return a run raise UnreadableRunError for one of another version.
    """

    def __init__(self, database: Database, registry: Registry, settings: Settings) -> None:
        prepare(settings.database)
        self._client = DBOSClient(
            system_database_url=queue_url(settings.database),
            retry_connection_errors=False,  # a request says at once that the database is away
        )
        self._queue = self._client._sys_db
        self._database, self._registry, self._settings = database, registry, settings
        self._heartbeats, self._checkpoints = Heartbeats(database), Checkpoints(database)
        self._outlooks = Outlooks(self._queue, self._heartbeats)
        self._unreadable: set[str] = set()  # each is logged once
        self.feeds = Feeds(self._read_stream)

    def close(self) -> None:
        self._client.destroy()

    async def enqueue(
        self, spec: TrainSpec, *, user: str = NOBODY, priority: Priority = "normal", run: str | None = None
    ) -> Run:
        """Queues a run; the same id twice is one run.

        Raises QueueFullError, TooManyRunsError, and KeyTakenError for a deleted run's id whose model is still there.
        """
        run_id, now = run or new_run_id(), datetime.now(UTC)
        await asyncio.to_thread(self._enqueue, spec, user, priority, run_id)
        self._outlooks.drop()
        try:
            return await self.run(run_id)
        except UNAVAILABLE:  # it is in the queue all the same: who hears otherwise asks again
            queued, named = RunState.QUEUED, self._named(user)
            return Run(id=run_id, name=spec.name, user=named, state=queued, created_at=now, spec=spec, history=[])

    def _enqueue(self, spec: TrainSpec, user: str, priority: Priority, run: str) -> None:
        seconds = self.expected_seconds(spec)
        with self._database.writing("queue") as connection:  # what was counted is true until the run is in the queue
            if self._client.list_workflows(workflow_ids=[run], load_input=False, load_output=False):
                return
            if model_of(connection, run):  # on no second connection: many who wait here would take them all
                raise KeyTakenError(run)
            waiting, running = read_line(self._queue)
            self._check_limits(waiting, user)
            attributes = {"created_at": datetime.now(UTC).isoformat(), "seconds": seconds}
            self._client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": run,
                    "app_version": APPLICATION_VERSION,
                    "serialization_type": WorkflowSerializationFormat.PORTABLE,
                    "authenticated_user": user,
                    "priority": next_rank(waiting, running, user, priority),
                    "attributes": attributes,
                },
                spec.model_dump(mode="json"),
            )

    def expected_seconds(self, spec: TrainSpec) -> float:
        """How long the training is expected to take on what the workers train on."""
        examples = examples_left(TRAIN_EXAMPLES, spec.validation_split)
        return estimate_seconds(spec, examples, backend=self._heartbeats.backend())

    def _check_limits(self, waiting: list[Place], user: str) -> None:
        own = sum(place.user == user for place in waiting)
        if own >= self._settings.max_queued_runs_per_user:
            raise TooManyRunsError(own)
        if len(waiting) >= self._settings.max_queued_runs:
            raise QueueFullError(len(waiting))

    async def enqueue_first(self, spec: TrainSpec) -> None:
        """Queues a run unless one is under way, however long the database takes to come.

        API processes that start together queue a single one.
        """
        await persisting(lambda: self._enqueue_first(spec))

    def _enqueue_first(self, spec: TrainSpec) -> None:
        statuses = self._client.list_workflows(name=WORKFLOW, load_input=False)
        if any(state_of(status) in ACTIVE for status in statuses):
            return
        taken = {status.workflow_id for status in statuses}
        run = next(name for number in itertools.count() if (name := f"first-{number}") not in taken)
        self._enqueue(spec, NOBODY, "normal", run)

    async def run(self, run: str) -> Run:
        status = await self._status(run)
        snapshot = await (self._replay if status.status in CUT_SHORT else self._snapshot)(run)
        outlook = await self._outlooks.of(_waiting([status]))
        return Run(**self._summary(status, outlook, snapshot), history=snapshot["history"])

    async def runs(
        self, *, limit: int, offset: int, states: Collection[RunState] = (), user: str | None = None
    ) -> RunList:
        """A page of runs, newest first, without those that this version cannot read.

        states, user: of those in one of the states, if any is named, and of the user's, if one is.
        """
        if user is not None and not self._named(user):
            return RunList(runs=[])
        page, next_offset = await asyncio.to_thread(self._page, states, user, limit, offset)
        outlook = await self._outlooks.of(_waiting(page))
        snapshots = await asyncio.to_thread(read_snapshots, self._queue, [status.workflow_id for status in page])
        found = (self._if_readable(status, outlook, snapshots[status.workflow_id]) for status in page)
        return RunList(runs=[run for run in found if run], next_offset=next_offset)

    def _page(
        self, states: Collection[RunState], user: str | None, limit: int, offset: int
    ) -> tuple[list[WorkflowStatus], int | None]:
        """The page, and the offset of the next one."""
        if not states:  # what every open page asks for, in one query
            found = self._client.list_workflows(
                name=WORKFLOW, user=user, sort_desc=True, limit=limit + 1, offset=offset
            )
            page, more = found[:limit], len(found) > limit
        else:
            ids = newest_runs(self._queue, states=states, user=user, limit=limit + 1, offset=offset)
            page = self._client.list_workflows(workflow_ids=ids[:limit]) if ids else []
            more = len(ids) > limit
        return sorted(page, key=_asked_at, reverse=True), offset + limit if more else None

    def _if_readable(self, status: WorkflowStatus, outlook: Outlook, snapshot: Snapshot) -> RunSummary | None:
        try:
            return RunSummary(**self._summary(status, outlook, snapshot))
        except UnreadableRunError as error:
            if status.workflow_id not in self._unreadable:
                self._unreadable.add(status.workflow_id)
                _log.warning("%s", error)
            return None

    def _summary(self, status: WorkflowStatus, outlook: Outlook, snapshot: Snapshot) -> dict[str, Any]:
        return {**summary(status, outlook, snapshot), "user": self._named(status.authenticated_user)}

    def _named(self, user: str | None) -> str | None:
        """None for all who have no key: the service itself, and addresses."""
        return user if user in self._settings.api_keys else None

    async def cancel(self, run: str) -> Run:
        """Raises RunEndedError for a run that has ended, or has published its model and is about to."""
        state = state_of(await self._status(run))
        if state not in ACTIVE:
            raise RunEndedError(run, state)
        if not await asyncio.to_thread(self._registry.renounce, run):
            succeeded = await asyncio.to_thread(self._registry.succeeded_with, run)
            raise RunEndedError(run, RunState.SUCCEEDED if succeeded else RunState.FAILED)
        await self._client.cancel_workflow_async(run)
        self._outlooks.drop()
        await asyncio.to_thread(self._checkpoints.delete, run)
        cancelled = await self.run(run)
        if cancelled.state != RunState.CANCELLED:
            raise RunEndedError(run, cancelled.state)
        return cancelled

    async def delete(self, run: str) -> None:
        """Forgets an ended run, with its events and its checkpoint; its model stays. Raises RunActiveError."""
        state = state_of(await self._status(run))
        if state in ACTIVE:
            raise RunActiveError(run, state)
        await self._client.delete_workflow_async(run)
        await asyncio.to_thread(self._checkpoints.delete, run)

    async def owner(self, run: str) -> str | None:
        """The user who asked for it."""
        return (await self._status(run)).authenticated_user

    async def end(self, run: str) -> RunEnd | None:
        """How the run ended; None while it goes on."""
        end = end_of(await self._status(run))
        return None if end.state in ACTIVE else end

    async def is_behind_end(self, run: str, event: int) -> bool:
        """Whether an ended run's stream has no event of that offset, which is the end's then, or beyond."""
        _, events = await asyncio.to_thread(read_events, self._queue, run, event)
        return not events

    def counts(self) -> dict[str, int]:
        """How many runs there are in each state."""
        return count_by_state(self._queue)

    async def _read_stream(self, run: str, offset: int) -> AsyncIterator[list[Any]]:
        """The run's events from there on, some at a time, as they are written, until it ends."""
        while True:
            state, events = await asyncio.to_thread(read_events, self._queue, run, offset)
            if events:
                yield events
                offset += len(events)
            elif state in ACTIVE:
                await self._wait_for_news(run)
            else:
                return

    async def _wait_for_news(self, run: str) -> None:
        """While the run waits there are none; of all that wait one reading tells, however many are watched."""
        await asyncio.sleep(STREAM_POLL_SECONDS)
        while await self._outlooks.waits(run):
            await asyncio.sleep(OUTLOOK_SECONDS)

    async def _status(self, run: str) -> WorkflowStatus:
        if not _RUN_ID.fullmatch(run):  # no other can be there, and PostgreSQL takes no NUL
            raise RunNotFoundError(run)
        statuses = await self._client.list_workflows_async(name=WORKFLOW, workflow_ids=[run])
        if not statuses:
            raise RunNotFoundError(run)
        return statuses[0]

    async def _snapshot(self, run: str) -> Snapshot:
        return (await asyncio.to_thread(read_snapshots, self._queue, [run]))[run]

    async def _replay(self, run: str) -> Snapshot:
        """The snapshot of a run whose worker could save no last one: with what its stream has beyond it."""
        snapshot = await self._snapshot(run)
        async for events in self._read_stream(run, snapshot["events"]):
            for event in events:
                add_event(snapshot, event["kind"], event["data"])
        return snapshot


def _waiting(statuses: Iterable[WorkflowStatus]) -> set[str]:
    return {status.workflow_id for status in statuses if state_of(status) == RunState.QUEUED}


def _asked_at(status: WorkflowStatus) -> str:
    """The queue's own times are whole seconds on SQLite."""
    assert status.attributes is not None, "enqueue gives every run some"
    return str(status.attributes["created_at"])


def run_id_of(user: str, key: str) -> str:
    """The same for a user's same key, so that a request that is sent again queues nothing again."""
    return hashlib.sha256(f"{user}\n{key}".encode()).hexdigest()[:20]


def new_run_id() -> str:
    """Ids sort by the time they were made, in microseconds."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(3)}"
