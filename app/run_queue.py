"""What both sides of the durable queue agree on: its names, its database, and what a run's events add up to.

`app.jobs` and `app.statuses` are the API's side, `app.claims` the worker's; no other file speaks to DBOS. The worker
does without JAX, which is its trainer's.
"""

from typing import Any

import sqlalchemy as sa
from dbos import DBOS

from app.database import prepare_file, queue_url

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


def empty_snapshot() -> dict[str, Any]:
    """What a run's events add up to before the first."""
    return {"started_at": None, "worker": None, "progress": None, "history": []}


def add_event(snapshot: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
    """A run that was begun again repeats epochs: the last report of each holds."""
    if kind == "progress":
        snapshot["progress"] = data
    else:
        earlier = [epoch for epoch in snapshot["history"] if epoch["epoch"] < data["epoch"]]
        snapshot["history"] = [*earlier, data]
