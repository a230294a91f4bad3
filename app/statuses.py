"""What the durable queue says of runs, in the words of this service."""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from dbos import WorkflowStatus
from pydantic import ValidationError

from app.errors import UnreadableRunError
from app.run_queue import MAX_ATTEMPTS, STREAM, UNENDED, WORKFLOW, Snapshot
from app.scheduling import Place, in_order
from app.schemas import RunEnd, RunState, located_message_of
from app.settings import NOBODY
from model.spec import TrainSpec

if TYPE_CHECKING:
    from dbos._sys_db import SystemDatabase

ACTIVE = {RunState.QUEUED, RunState.RUNNING}
EVENTS_AT_ONCE = 200  # to render them holds the event loop up for a few milliseconds
CUT_SHORT = {"CANCELLED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}  # the worker could save no last snapshot

_STATES = {
    "ENQUEUED": RunState.QUEUED,
    "DELAYED": RunState.QUEUED,
    "PENDING": RunState.RUNNING,
    "CANCELLED": RunState.CANCELLED,
    "SUCCESS": RunState.SUCCEEDED,
    "ERROR": RunState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": RunState.FAILED,
}


class Line(NamedTuple):
    """The queue at a moment: who waits, first first, and what is being trained."""

    waiting: list[Place]
    running: list[Place]


class Outlook(NamedTuple):
    """What runs that wait may expect: each one's position, from 1, and the seconds until it starts."""

    positions: dict[str, int]
    waits: dict[str, float]  # empty without a worker


def read_line(queue: "SystemDatabase") -> Line:
    """DBOS' own listings build all of each run."""
    statuses = queue.tables.workflow_status
    columns = ("status", "workflow_uuid", "authenticated_user", "priority", "created_at", "attributes")
    query = sa.select(*(statuses.c[name] for name in columns))
    line = Line([], [])
    with queue.engine.connect() as connection:
        unended = query.where(statuses.c.name == WORKFLOW, statuses.c.status.in_(UNENDED))
        for status, run, user, rank, created_at, attributes in connection.execute(unended):
            place = Place(run, user or NOBODY, rank, created_at, attributes.get("seconds", 0.0))
            (line.waiting if _STATES[status] == RunState.QUEUED else line.running).append(place)
    return Line(in_order(line.waiting), line.running)


def read_events(queue: "SystemDatabase", run: str, offset: int) -> tuple[RunState | None, list[Any]]:
    """The run's state, and of its stream the next events from an offset on."""
    status, values = queue.read_stream_values(run, STREAM, offset, EVENTS_AT_ONCE)
    return _STATES.get(status or ""), [json.loads(str(value)) for value, _ in values]  # none of them is null


def state_of(status: WorkflowStatus) -> RunState:
    return end_of(status).state


def end_of(status: WorkflowStatus) -> RunEnd:
    """How the run ended; while it goes on, its state alone."""
    if status.status == "SUCCESS":
        return RunEnd.model_validate(status.output)
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return RunEnd(state=RunState.FAILED, error=f"its worker died {MAX_ATTEMPTS} times while training it")
    if status.status == "ERROR":
        return RunEnd(state=RunState.FAILED, error=f"the worker failed: {status.error}")
    return RunEnd(state=_STATES[status.status])


def _spec_of(status: WorkflowStatus) -> TrainSpec:
    """Raises UnreadableRunError for what an older version has stored, where today's rules refuse it."""
    assert status.input is not None, "enqueue gives every run one"
    try:
        return TrainSpec.model_validate(status.input["args"][0])
    except ValidationError as error:
        raise UnreadableRunError(status.workflow_id, located_message_of(error.errors()[0])) from error


def summary(status: WorkflowStatus, outlook: Outlook, snapshot: Snapshot) -> dict[str, Any]:
    """The fields of a RunSummary, but its user. Raises UnreadableRunError."""
    assert status.attributes is not None, "enqueue gives every run some"
    spec = _spec_of(status)
    run, end = status.workflow_id, end_of(status)
    created_at = datetime.fromisoformat(status.attributes["created_at"])
    ended_at = _time(status.completed_at)
    waits = end.state == RunState.QUEUED
    return {
        "id": run,
        "name": spec.name,
        "state": end.state,
        "queue_position": outlook.positions.get(run) if waits else None,
        "starts_in_seconds": outlook.waits.get(run) if waits else None,
        "created_at": created_at,
        "started_at": snapshot["started_at"] or _time(status.dequeued_at),
        "ended_at": ended_at and max(ended_at, created_at),  # on SQLite, DBOS keeps whole seconds
        "worker": snapshot["worker"],
        "spec": spec,
        "progress": snapshot["progress"],
        "model": end.model,
        "error": end.error,
    }


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _state_in(queue: "SystemDatabase") -> sa.ColumnElement[str]:
    """A run's state as a column beside those of its workflow_status."""
    statuses, ends = queue.tables.workflow_status, queue.tables.workflow_output
    own = sa.select(ends.c.output).where(ends.c.workflow_uuid == statuses.c.workflow_uuid).scalar_subquery()
    output = sa.func.coalesce(own, statuses.c.output)  # an older DBOS kept it in the latter
    failed = output.contains('"state":"failed"')  # a failure that the training reported
    names = ((statuses.c.status == status, state.value) for status, state in _STATES.items())
    return sa.case((failed, RunState.FAILED.value), *names)


def newest_runs(
    queue: "SystemDatabase", *, states: Collection[RunState], user: str | None, limit: int, offset: int
) -> list[str]:
    """The ids of runs in one of the states, of the user's if one is named; newest first."""
    statuses = queue.tables.workflow_status
    query = sa.select(statuses.c.workflow_uuid).where(statuses.c.name == WORKFLOW, _state_in(queue).in_(states))
    if user is not None:
        query = query.where(statuses.c.authenticated_user == user)
    asked_at = (statuses.c.created_at, statuses.c.attributes["created_at"].as_string())  # the first has an index
    page = query.order_by(*(time.desc() for time in asked_at)).limit(limit).offset(offset)
    with queue.engine.connect() as connection:
        return list(connection.scalars(page))


def count_by_state(queue: "SystemDatabase") -> dict[str, int]:
    """How many runs there are in each state."""
    state = _state_in(queue).label("state")
    runs = sa.select(state).where(queue.tables.workflow_status.c.name == WORKFLOW).subquery()
    query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
    counts = {state.value: 0 for state in RunState}
    with queue.engine.connect() as connection:
        for found, count in connection.execute(query):
            counts[found] = count
    return counts
