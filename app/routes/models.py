"""/models and /presets: what was trained, and what can be."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.aliases import DEFAULT
from app.dependencies import ModelName, PredictorDep, RegistryDep
from app.errors import describe
from app.model_schemas import DefaultModel, ModelInfo, ModelList
from app.schemas import PresetInfo, PresetList
from app.users import UserDep
from model.presets import PRESETS

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(registry: RegistryDep) -> ModelList:
    """Every published model, newest first."""
    return ModelList(models=registry.models())


@router.put("/models/default", max_body_size=1_000, responses=describe(401, 404, 413))
def choose_default(choice: DefaultModel, user: UserDep, registry: RegistryDep, predictor: PredictorDep) -> ModelInfo:
    """Pins the model that answers /predict; with null, the best model answers again, now and from now on."""
    if choice.model is not None:
        predictor.model(choice.model)  # one that cannot be loaded never becomes the default
    registry.pin_default(choice.model)
    predictor.refresh()
    return registry.model(DEFAULT)


@router.get("/models/{model}", responses=describe(404))
def read_model(model: ModelName, registry: RegistryDep) -> ModelInfo:
    """One model."""
    return registry.model(model)


@router.delete("/models/{model}", status_code=HTTPStatus.NO_CONTENT, responses=describe(401, 404, 409))
def delete_model(model: ModelName, user: UserDep, registry: RegistryDep) -> None:
    """Deletes a model that no alias points to."""
    registry.delete(model)


@router.get("/models/{model}/download", response_class=Response, responses=describe(404))
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
    return Response(data, headers=headers, media_type="application/octet-stream")


@router.get("/presets", tags=["train"])
def list_presets() -> PresetList:
    """The ready trainings."""
    presets = [
        PresetInfo(name=name, description=preset.description, spec=preset.spec) for name, preset in PRESETS.items()
    ]
    return PresetList(presets=presets)
