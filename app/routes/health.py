"""/healthz and /readyz: for whoever watches over the process."""

from fastapi import APIRouter

from app.dependencies import PredictorDep
from app.schemas import Health, Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
async def readyz(predictor: PredictorDep) -> Readiness:
    """A model is warm: /predict answers without compiling."""
    return Readiness(model=predictor.default.id)
