"""/train: request, list, watch and cancel runs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.database import UNAVAILABLE
from app.dependencies import ExistingRun, JobsDep, RunId, SettingsDep
from app.errors import KeyTakenError, RunNotFoundError, describe
from app.feeds import EventStream
from app.jobs import Jobs, run_id_of
from app.scheduling import Priority
from app.schemas import LOCATION, DryRun, LayerSummary, Run, RunList, RunState
from app.statuses import ACTIVE
from app.users import UserDep, may_change, require_priority
from model.data import TRAIN_EXAMPLES
from model.network import parameter_count
from model.plan import estimate_memory_bytes
from model.presets import TrainRequest
from model.spec import TrainSpec
from model.spec_layers import layer_shapes

MAX_SPEC_BYTES = 65_536  # the largest spec has a few thousand; what is wrong with a large one takes long to find

router = APIRouter(prefix="/train", tags=["train"])


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    max_body_size=MAX_SPEC_BYTES,
    responses={
        200: {"model": DryRun, "description": "What the run would be"},
        202: {"headers": LOCATION},
        **describe(409, 429),
    },
)
async def train(
    request: TrainRequest,
    jobs: JobsDep,
    user: UserDep,
    settings: SettingsDep,
    response: Response,
    dry_run: Annotated[bool, Query(description="Answer 200 with what the run would be", examples=[True])] = False,
    priority: Annotated[
        Priority, Query(description="low waits for all others; high passes them, for priority users", examples=["low"])
    ] = "normal",
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="Your name for the request: sent again, it queues no more",
            examples=["7f3a"],
        ),
    ] = None,
) -> Run | DryRun:
    """Queues a training. Every field may be left out: `{}` trains the tutorial network. Users take turns."""
    spec = request.spec()
    if dry_run:
        response.status_code = HTTPStatus.OK
        return _dry_run(spec, await asyncio.to_thread(jobs.expected_seconds, spec))
    require_priority(user, priority, settings)
    run_id = idempotency_key and run_id_of(user, idempotency_key)
    run = await jobs.enqueue(spec, user=user, priority=priority, run=run_id)
    if run.spec != spec:
        raise KeyTakenError(run.id)
    response.headers["Location"] = f"/train/{run.id}"
    return run


def _dry_run(spec: TrainSpec, seconds: float) -> DryRun:
    shapes = list(layer_shapes(spec.network))
    rows = [
        LayerSummary(type=row.layer.type, output_shape=list(row.output_shape), parameters=row.parameters)
        for row in shapes
    ]
    return DryRun(
        spec=spec,
        summary=rows,
        parameters=parameter_count(spec.network),
        trainable_parameters=sum(row.parameters - row.statistics for row in shapes),
        memory_bytes=estimate_memory_bytes(spec, TRAIN_EXAMPLES),
        seconds=seconds,
    )


@router.get("")
async def list_runs(
    jobs: JobsDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Runs on a page", examples=[20])] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31, description="Runs to skip", examples=[0])] = 0,
    state: Annotated[
        tuple[RunState, ...],
        Query(description="Only runs in this state; repeated, in any of them", examples=[["running"]]),
    ] = (),
    user: Annotated[
        str | None, Query(description="Only runs of this user, as `user` names it", examples=["ada"])
    ] = None,
) -> RunList:
    """Runs, newest first."""
    return await jobs.runs(limit=limit, offset=offset, states=state, user=user)


@router.get("/{run}", responses=describe(404, 409))
async def read_run(run: ExistingRun) -> Run:
    """One run with its history."""
    return run


# In OpenAPI 3.1, which tools read, a stream is a text; 3.2 alone could say what each of its items holds.
_EVENTS = {
    "type": "string",
    "description": "Server-sent events. `data` is JSON: of `progress` a Progress, of `epoch` an EpochReport, of `end`, "
    "the last, a RunEnd. `id` is the event's offset in the run's stream",
    "examples": ['event: end\ndata: {"state": "succeeded", "model": "3f9a1c0b7d2e", "error": null}\nid: 41\n\n'],
}


@router.get(
    "/{run}/events",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses={
        200: {"content": {"text/event-stream": {"schema": _EVENTS}}},
        204: {"description": "Last-Event-ID is that of `end`: a browser's EventSource, which asks on, stops at this"},
        **describe(404, 409),
    },
)
async def watch_run(
    existing: ExistingRun,
    jobs: JobsDep,
    last_event_id: Annotated[
        int | None,
        Header(ge=-1, le=2**31, description="Offset of the last event that was received; -1: none yet", examples=[41]),
    ] = None,
) -> Response:
    """The run as it trains: `progress` and `epoch` events from its start, or behind Last-Event-ID, then one `end`."""
    first = 0 if last_event_id is None else last_event_id + 1
    has_ended = existing.state not in ACTIVE
    if first > 0 and has_ended and await jobs.is_behind_end(existing.id, first - 1):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(_watch(jobs, existing, first))


async def _watch(jobs: Jobs, run: Run, offset: int) -> AsyncGenerator[bytes, None]:
    """What a watcher lacks in one write, however many events that are."""
    async with aclosing(jobs.feeds.follow(run.id, offset)) as following:
        async for messages in following:
            yield b"".join(messages) or KEEPALIVE_COMMENT
            offset += len(messages)
    if offset == 0:  # the stream of a run that ended long ago is not kept
        for epoch in run.history:
            yield format_sse_event(event="epoch", data_str=epoch.model_dump_json())
    with suppress(RunNotFoundError, *UNAVAILABLE):  # too late for a problem; who asks again is told
        if end := await jobs.end(run.id):
            yield format_sse_event(event="end", data_str=end.model_dump_json(), id=str(offset))


@router.post("/{run}/cancel", status_code=HTTPStatus.ACCEPTED, responses=describe(404, 409))
async def cancel_run(run: RunId, user: UserDep, jobs: JobsDep, settings: SettingsDep) -> Run:
    """Ends a queued or running run; what it has reported so far is kept. Where keys are set, one's own."""
    may_change(user, await jobs.owner(run), settings)
    return await jobs.cancel(run)


@router.delete("/{run}", status_code=HTTPStatus.NO_CONTENT, response_class=Response, responses=describe(404, 409))
async def delete_run(run: RunId, user: UserDep, jobs: JobsDep, settings: SettingsDep) -> None:
    """Removes an ended run and its events; the model that it published stays. Where keys are set, one's own."""
    may_change(user, await jobs.owner(run), settings)
    await jobs.delete(run)
