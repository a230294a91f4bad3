"""/models and /presets: what was trained or uploaded, and what can be trained."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from app.comparisons import compare
from app.dependencies import ModelName, RegistryDep, UploadsDep
from app.errors import describe
from app.model_schemas import ModelChange, ModelComparison, ModelInfo, ModelList, Order, Sort
from app.request_bodies import media_type_of, unexpected_type
from app.schemas import LOCATION, MODEL_ID, ONE_LINE, PresetInfo, PresetList
from app.uploads import MAX_UPLOAD_BYTES
from app.users import KEYED
from model.presets import PRESETS
from model.spec import LABEL

MAX_CHANGE_BYTES = 20_000  # 2,000 characters, each of them escaped
FILE_TYPE = "application/octet-stream"
_FILE = {FILE_TYPE: {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(
    registry: RegistryDep,
    name: Annotated[
        str, Query(max_length=100, pattern=ONE_LINE, description="Only those with it in their name", examples=["pens"])
    ] = "",
    sort: Annotated[Sort, Query(description="What they are ordered by", examples=["accuracy"])] = "created_at",
    order: Annotated[
        Order | None,
        Query(
            description="asc: from small, from A or from old on; left out: the newest, best, largest or A first",
            examples=["asc"],
        ),
    ] = None,
    limit: Annotated[
        int | None, Query(ge=1, le=1_000, description="Models on a page; all if left out", examples=[20])
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**31, description="Models to skip", examples=[0])] = 0,
) -> ModelList:
    """The models, newest first unless asked otherwise. Upper and lower case are the same in `name`."""
    one_more = limit and limit + 1
    models = registry.models(name=name, sort=sort, order=order, limit=one_more, offset=offset)
    more = limit is not None and len(models) > limit
    return ModelList(models=models[:limit], next_offset=offset + limit if limit and more else None)


@router.post(
    "/models",
    dependencies=[KEYED],
    status_code=HTTPStatus.CREATED,
    max_body_size=MAX_UPLOAD_BYTES,
    responses={
        200: {
            "description": "The same bytes are a model already: this one",
            "model": ModelInfo,
            "headers": LOCATION,
        },
        201: {"headers": LOCATION},
        **describe(422),
    },
    openapi_extra={"requestBody": {"required": True, "content": _FILE}},
)
async def upload_model(
    request: Request,
    response: Response,
    uploads: UploadsDep,
    name: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=100,
            pattern=LABEL,
            description="Its label; its spec's if left out",
            examples=["pens"],
        ),
    ] = None,
) -> ModelInfo:
    """Adds a model from a safetensors file as the download gives it, and scores it on the 10,000 test images.

    It never becomes the default by itself; pin it, or try it as the candidate.
    """
    if (media_type := media_type_of(request)) != FILE_TYPE:
        raise unexpected_type(media_type, FILE_TYPE)
    with uploads.place():
        model, new = await uploads.add(await request.body(), name)
    response.headers["Location"] = f"/models/{model.id}"
    if not new:
        response.status_code = HTTPStatus.OK
    return model


@router.get("/models/compare", responses=describe(404))
def compare_models(
    registry: RegistryDep,
    models: Annotated[
        list[str], Query(min_length=2, max_length=8, description="Ids or aliases", examples=[[MODEL_ID, "default"]])
    ],
) -> ModelComparison:
    """Two to eight models side by side: where their specs differ, their scores, and their scores on each digit."""
    return compare(registry, models)


@router.get("/models/{model}", responses=describe(404))
def read_model(model: ModelName, registry: RegistryDep) -> ModelInfo:
    """One model."""
    return registry.model(model)


@router.patch("/models/{model}", dependencies=[KEYED], max_body_size=MAX_CHANGE_BYTES, responses=describe(404))
def change_model(model: ModelName, change: ModelChange, registry: RegistryDep) -> ModelInfo:
    """Renames or describes a model; what it is and how it answers stays."""
    return registry.change(model, change.name, change.description)


@router.delete(
    "/models/{model}",
    dependencies=[KEYED],
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    responses=describe(404, 409),
)
def delete_model(model: ModelName, registry: RegistryDep) -> None:
    """Deletes a model that no alias points to."""
    registry.delete(model)


@router.get(
    "/models/{model}/download", response_class=Response, responses={200: {"content": _FILE}, **describe(404, 409)}
)
def download_model(
    model: ModelName,
    registry: RegistryDep,
    format: Annotated[
        Literal["safetensors"], Query(description="The file format", examples=["safetensors"])
    ] = "safetensors",
) -> Response:
    """The model's parameters with its spec; equal trainings give equal files."""
    model_id, data = registry.parameters(model)
    headers = {"Content-Disposition": f'attachment; filename="{model_id}.{format}"'}
    return Response(data, headers=headers, media_type=FILE_TYPE)


@router.get("/presets", tags=["train"])
def list_presets() -> PresetList:
    """The ready trainings."""
    presets = [
        PresetInfo(name=name, description=preset.description, spec=preset.spec) for name, preset in PRESETS.items()
    ]
    return PresetList(presets=presets)
