"""What routes ask for by type: the service's parts, and runs and models that are known to exist.

They are `async def`, though nothing is awaited: FastAPI calls others in a thread, which costs more than most requests.
"""

from typing import Annotated, TypedDict

from fastapi import Depends, Path, Request

from app.jobs import Jobs
from app.metrics import Metrics
from app.predictor import Predictor
from app.registry import Registry
from app.schemas import MODEL_ID, RUN_ID, Run
from app.settings import Settings
from app.uploads import Uploads


class State(TypedDict):
    """What the lifespan builds and every request can reach."""

    settings: Settings
    jobs: Jobs
    metrics: Metrics
    registry: Registry
    predictor: Predictor
    uploads: Uploads


async def _settings(request: Request) -> Settings:
    return request.state.settings


async def _jobs(request: Request) -> Jobs:
    return request.state.jobs


async def _metrics(request: Request) -> Metrics:
    return request.state.metrics


async def _registry(request: Request) -> Registry:
    return request.state.registry


async def _predictor(request: Request) -> Predictor:
    return request.state.predictor


async def _uploads(request: Request) -> Uploads:
    return request.state.uploads


SettingsDep = Annotated[Settings, Depends(_settings)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
RegistryDep = Annotated[Registry, Depends(_registry)]
PredictorDep = Annotated[Predictor, Depends(_predictor)]
UploadsDep = Annotated[Uploads, Depends(_uploads)]

RunId = Annotated[str, Path(description="A run's id", examples=[RUN_ID])]
ModelName = Annotated[str, Path(description="A model's id, or an alias such as default", examples=[MODEL_ID])]


async def _existing_run(run: RunId, jobs: JobsDep) -> Run:
    return await jobs.run(run)


ExistingRun = Annotated[Run, Depends(_existing_run)]
