"""What the durable queue says of runs, in the words of this service."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from dbos import WorkflowStatus
from pydantic import ValidationError

from app.errors import UnreadableRunError
from app.run_queue import MAX_ATTEMPTS, STREAM, UNENDED, WORKFLOW, Snapshot
from app.scheduling import Place, in_order
from app.schemas import RunEnd, RunState, located_message_of
from model.spec import TrainSpec

if TYPE_CHECKING:
    from dbos._sys_db import SystemDatabase

NOBODY = "inkling"  # whose runs the service's own are
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
    """The fields of a RunSummary. Raises UnreadableRunError."""
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


def count_by_state(queue: "SystemDatabase") -> dict[str, int]:
    """How many runs there are in each state."""
    statuses, ends = queue.tables.workflow_status, queue.tables.workflow_output
    output = sa.func.coalesce(ends.c.output, statuses.c.output)  # an older DBOS kept it in the latter
    failed = sa.func.coalesce(output.contains('"state":"failed"'), sa.false())  # a failure that the training reported
    joined = statuses.outerjoin(ends, statuses.c.workflow_uuid == ends.c.workflow_uuid)
    query = sa.select(statuses.c.status, failed, sa.func.count()).select_from(joined)
    counts = dict.fromkeys(RunState, 0)
    with queue.engine.connect() as connection:
        grouped = query.where(statuses.c.name == WORKFLOW).group_by(statuses.c.status, failed)
        for status, has_failed, count in connection.execute(grouped):
            counts[RunState.FAILED if has_failed else _STATES[status]] += count
    return {state.value: count for state, count in counts.items()}
