"""/healthz and /readyz: for whoever watches over the process."""

from fastapi import APIRouter

from app.dependencies import PredictorDep
from app.schemas import Health, Readiness

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(predictor: PredictorDep) -> Readiness:
    """A model is warm: /predict answers without compiling."""
    return Readiness(model=predictor.default.id)
