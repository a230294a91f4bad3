"""Reads a run's server-sent events as a client does."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.processes import Service

Event = tuple[str, int | None, dict[str, Any]]


def events(service: Service, run: str, last_event_id: int | None = None) -> Iterator[Event]:
    """(event, id, data) of a run's stream until it closes."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with service.http.stream("GET", f"/train/{run}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield from parsed(response.iter_lines())


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif "event" in fields:
            event_id = int(fields["id"]) if "id" in fields else None
            yield fields["event"], event_id, json.loads(fields["data"])
            fields = {}
