"""The shapes of requests and answers that are not types of model/ already; those about models: app.model_schemas."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails

from model.reports import EpochReport, StepReport
from model.spec import LABEL, TrainSpec
from model.spec_base import Spec

RUN_ID = "00064447bd31a01f9c2e"
MODEL_ID = "3f9a1c0b7d2e"
MODEL_NAME = r"^[0-9A-Za-z_-]{1,64}$"  # an id or an alias
ALIAS_NAME = r"^[a-z][a-z0-9-]{0,31}$"
ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
LOCATION = {"Location": {"description": "The path of what was made", "schema": {"type": "string"}}}  # for OpenAPI


SCHEMA_REF = "#/components/schemas/{model}"


def add_schema(openapi: dict[str, Any], model: type[BaseModel]) -> None:
    """Adds the shape of what no route answers by itself, and those of its parts, to an OpenAPI document."""
    _, definitions = models_json_schema([(model, "serialization")], ref_template=SCHEMA_REF)
    openapi["components"]["schemas"].update(definitions["$defs"])


class Wire(Spec):
    """What a request or an answer holds, as strict as a spec."""


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


Phase = Literal["preparing", "training", "evaluating"]


class Progress(StepReport):
    """Where a running run stands."""

    phase: Phase = Field(
        description="preparing: loading data and compiling; evaluating: scoring the trained network",
        examples=["training"],
    )
    note: str | None = Field(
        None,
        description="What became of an earlier attempt, whose worker was stopped or died",
        examples=["taken up again in epoch 3"],
    )


class WorkerInfo(Wire):
    """Where a run is trained."""

    host: str = Field(description="The machine's name", examples=["gpu-box"])
    slot: int = Field(description="The worker's place on it, from 0", examples=[0])
    device: str = Field(description="What it trains on", examples=["NVIDIA H100 80GB HBM3"])


PublishedModel = Annotated[
    str | None,
    Field(
        description="The model that it published; of a training that diverged, parameters from before: the best "
        "epoch's where they were to be restored, else the last that were finite",
        examples=[MODEL_ID],
    ),
]
Reason = Annotated[str | None, Field(description="Why it failed", examples=["the loss became nan in epoch 1"])]


class RunSummary(Wire):
    """One requested training, without its history."""

    id: str = Field(description="The run's id", examples=[RUN_ID])
    name: str = Field(description="The label given to it", examples=["two hidden layers"])
    user: str | None = Field(
        None,
        description="Whose key asked for it; null: the service's own, or of somebody without a key",
        examples=["ada"],
    )
    state: RunState = Field(description="queued → running → succeeded, failed or cancelled", examples=["running"])
    queue_position: int | None = Field(None, description="1 starts next; null once started", examples=[1])
    starts_in_seconds: float | None = Field(
        None,
        description="Seconds until a worker is expected to take it; null once started, and while there is no worker",
        examples=[42.0],
    )
    created_at: datetime = Field(description="When it was requested", examples=["2026-11-23T15:00:00Z"])
    started_at: datetime | None = Field(None, description="When a worker took it", examples=["2026-11-23T15:00:01Z"])
    ended_at: datetime | None = Field(None, description="When it ended", examples=["2026-11-23T15:01:40Z"])
    worker: WorkerInfo | None = Field(None, description="Who trains it, or trained it last")
    spec: TrainSpec = Field(description="Everything that determines its result")
    progress: Progress | None = Field(None, description="Where it stands, or stood last")
    model: PublishedModel = None
    error: Reason = None


class Run(RunSummary):
    """One requested training with its history."""

    history: list[EpochReport] = Field(description="Finished epochs, oldest first")


class RunList(Wire):
    """A page of runs, newest first."""

    runs: list[RunSummary] = Field(description="The runs of this page")
    next_offset: int | None = Field(None, description="`offset` of the next page; null on the last", examples=[20])


class RunEnd(Wire):
    """How a run ended: the last event of its stream."""

    state: RunState = Field(description="succeeded, failed or cancelled", examples=["succeeded"])
    model: PublishedModel = None
    error: Reason = None


class LayerSummary(Wire):
    """One row of a network's summary."""

    type: str = Field(description="The kind of layer", examples=["dense"])
    output_shape: list[int] = Field(description="Shape of its output for one image", examples=[[500]])
    parameters: int = Field(
        description="Numbers that it keeps, running statistics included, as Keras counts them", examples=[392500]
    )


class DryRun(Wire):
    """What a run would be: nothing was queued."""

    spec: TrainSpec = Field(description="What would be trained")
    summary: list[LayerSummary] = Field(description="The network's layers")
    parameters: int = Field(description="Numbers that the layers would keep", examples=[648010])
    trainable_parameters: int = Field(
        description="Those of them that gradients change: all but running statistics", examples=[648010]
    )
    memory_bytes: int = Field(
        description="Memory that data, parameters, batch and checkpoints would take", examples=[73000000]
    )
    seconds: float = Field(
        description="Training time on what the workers have, two CPU cores or a GPU; good to a factor of a few",
        examples=[130.0],
    )


class PresetInfo(Wire):
    """A ready training."""

    name: str = Field(description="What `preset` in POST /train takes", examples=["quick"])
    description: str = Field(description="What it is good for", examples=["At least 98 % in the fewest seconds."])
    spec: TrainSpec = Field(description="The values that it stands for")


class PresetList(Wire):
    """The ready trainings."""

    presets: list[PresetInfo] = Field(description="The presets")


class Health(Wire):
    """The process answers."""

    status: Literal["ok"] = Field("ok", description="Always ok", examples=["ok"])


class Readiness(Wire):
    """The default model is warm."""

    status: Literal["ready"] = Field("ready", description="Always ready", examples=["ready"])
    model: str = Field(description="The model that answers /predict", examples=[MODEL_ID])


_OBJECT, _ARRAY = "Input should be an object", "Input should be an array"
_IN_JSON = {  # what pydantic says in Python's words
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "list_type": _ARRAY,
    "tuple_type": _ARRAY,
    "union_tag_not_found": "Input should be an object with a type",
}
_OF_PATTERN = {
    LABEL: "Input should be printable, on one line, and more than spaces",
    ONE_LINE: "Input should be printable, on one line",
    LINES: "Input should be printable",
    MODEL_NAME: "Input should be a model's id, or an alias",
    ALIAS_NAME: "Input should be 1 to 32 of a-z, 0-9 and -, a letter first",
}


def told(errors: list[ErrorDetails], given: dict[str, Any]) -> list[ErrorDetails]:
    """With their paths in what was given, without those that only follow from others: an array is too short where its
    items are wrong."""
    wrong = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    own = [error for error in errors if error["type"] != "too_short" or error["loc"] not in wrong]
    return [error | {"loc": _path_in(given, error["loc"])} for error in own]


def _path_in(given: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Pydantic also names the kind that it chose: ("optimizer", "adam", "lr"), where no field is called `adam`."""
    if loc[0] not in given:
        return loc
    path: list[str | int] = []
    may_be_kind = False
    for depth, part in enumerate(loc, 1):
        match given:
            case dict() if not (may_be_kind and part == given.get("type")) and (part in given or depth == len(loc)):
                given, may_be_kind = given.get(part), True
            case list() if isinstance(part, int) and part < len(given):
                given, may_be_kind = given[part], True
            case _:
                may_be_kind = False  # it has been told once
                continue
        path.append(part)
    return tuple(path)


def message_of(error: ErrorDetails) -> str:
    """What is wrong, without pydantic's word for who says so."""
    match error:
        case {"type": "string_pattern_mismatch", "ctx": {"pattern": str(pattern)}} if pattern in _OF_PATTERN:
            return _OF_PATTERN[pattern]
        case {"type": "too_short" | "too_long", "msg": msg}:  # Tuple should have at least 1 item after validation, …
            return f"Input {msg.partition(' ')[2].partition(' after')[0]}"
        case {"type": "union_tag_invalid", "ctx": {"expected_tags": types}}:
            return f"the type is none of {types}"
    return _IN_JSON.get(error["type"], error["msg"]).removeprefix("Value error, ")


def located(loc: Sequence[str | int], message: str) -> str:
    """Behind the path of the field."""
    return f"{'.'.join(map(str, loc))}: {message}"


def located_message_of(error: ErrorDetails) -> str:
    return located(error["loc"], message_of(error))


class FieldError(Wire):
    """One field of a request that is wrong."""

    loc: list[str | int] = Field(description="Path of the field", examples=[["body", "epochs"]])
    msg: str = Field(description="What is wrong with it", examples=["Input should be greater than or equal to 1"])


class Problem(Wire):
    """An error, as RFC 9457 has them."""

    type: str = Field("about:blank", description="about:blank: the title is the status' own", examples=["about:blank"])
    title: str = Field(description="The status in words", examples=["Unprocessable Content"])
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What was wrong, and what would be right", examples=["body.epochs: Input should …"])
    errors: list[FieldError] | None = Field(None, description="The fields that are wrong")
    error: str | None = Field(
        None, description="Under /v2 the detail again, where its protocol has it", examples=["body.inputs: Input …"]
    )
