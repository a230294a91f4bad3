"""/evaluate: how good the models are."""

from fastapi import APIRouter

from app.dependencies import ModelName, RegistryDep
from app.errors import describe
from app.model_schemas import Leaderboard, ModelEvaluation

router = APIRouter(prefix="/evaluate", tags=["evaluate"])


@router.get("")
def leaderboard(registry: RegistryDep) -> Leaderboard:
    """Every model, best first."""
    return Leaderboard(models=registry.leaderboard())


@router.get("/{model}", responses=describe(404))
def report(model: ModelName, registry: RegistryDep) -> ModelEvaluation:
    """A model's full report on the 10,000 test images, computed when it was published."""
    model_id, evaluation = registry.evaluation(model)
    return ModelEvaluation(model=model_id, **dict(evaluation))
