"""What both sides of the durable queue agree on: its names, its database, and what a run's events add up to.

`app.jobs` and `app.statuses` are the API's side, `app.claims` the worker's; no other file speaks to DBOS. The worker
does without JAX, which is its trainer's.
"""

import json
from typing import TYPE_CHECKING, Any, TypedDict

import sqlalchemy as sa
from dbos import DBOS

from app.database import prepare_file, queue_url

if TYPE_CHECKING:
    from dbos._sys_db import SystemDatabase

QUEUE = "training"
WORKFLOW = "train"
STREAM = "progress"
SNAPSHOT = "snapshot"
UNENDED = ["ENQUEUED", "DELAYED", "PENDING"]  # what DBOS calls a run that waits or is trained
APPLICATION_VERSION = "1"  # constant: DBOS' default changes with the code, and a deploy would strand running jobs
QUEUE_POLL_SECONDS = 0.5  # a look costs an idle worker 3 ms
STREAM_POLL_SECONDS = 0.2
MAX_ATTEMPTS = 5


def prepare(url: str) -> None:
    """Creates or migrates the queue's database; safe to call from several processes at once."""
    queue = sa.make_url(queue_url(url))
    if queue.drivername == "sqlite":
        prepare_file(queue)
    DBOS.migrate(system_database_url=queue_url(url))


class Snapshot(TypedDict):
    """What a run's events add up to; it crosses as JSON."""

    events: int  # so many of its stream need not be added any more
    started_at: str | None
    worker: dict[str, Any] | None  # a WorkerInfo
    progress: dict[str, Any] | None  # the newest Progress
    history: list[dict[str, Any]]  # an EpochReport each, in order


def empty_snapshot() -> Snapshot:
    """Before the first event."""
    return {"events": 0, "started_at": None, "worker": None, "progress": None, "history": []}


def add_event(snapshot: Snapshot, kind: str, data: dict[str, Any]) -> None:
    """A training that was taken up again reports anew what lies beyond the step where it stands."""
    snapshot["events"] += 1
    if kind == "progress":
        snapshot["progress"] = data
        epochs, past = snapshot["history"], data["step"] * data["epochs"]
        snapshot["history"] = [epoch for epoch in epochs if epoch["epoch"] * data["steps"] <= past]
    else:
        others = [epoch for epoch in snapshot["history"] if epoch["epoch"] != data["epoch"]]
        snapshot["history"] = sorted([*others, data], key=lambda epoch: epoch["epoch"])


def read_snapshots(queue: "SystemDatabase", runs: list[str]) -> dict[str, Snapshot]:
    """What each run's events add up to, by run."""
    events = queue.tables.workflow_events
    query = sa.select(events.c.workflow_uuid, events.c.value)
    with queue.engine.connect() as connection:
        saved = query.where(events.c.key == SNAPSHOT, events.c.workflow_uuid.in_(runs))
        found = {run: json.loads(value) for run, value in connection.execute(saved)}
    return {run: {**empty_snapshot(), **found.get(run, {})} for run in runs}
