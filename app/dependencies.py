"""What routes ask for by type: the service's parts, and runs and models that are known to exist.

They are `async def`, though most await nothing: FastAPI calls others in a thread, which costs more than most requests.
"""

from typing import Annotated, Any, TypedDict

from fastapi import Depends, Path, Request

from app.errors import InvalidInputError
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


def _part(name: str) -> Any:
    async def part(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(part)


SettingsDep = Annotated[Settings, _part("settings")]
JobsDep = Annotated[Jobs, _part("jobs")]
MetricsDep = Annotated[Metrics, _part("metrics")]
RegistryDep = Annotated[Registry, _part("registry")]
PredictorDep = Annotated[Predictor, _part("predictor")]
UploadsDep = Annotated[Uploads, _part("uploads")]

RunId = Annotated[str, Path(description="A run's id", examples=[RUN_ID])]
ModelName = Annotated[str, Path(description="A model's id, or an alias such as default", examples=[MODEL_ID])]


async def _existing_run(run: RunId, jobs: JobsDep) -> Run:
    return await jobs.run(run)


ExistingRun = Annotated[Run, Depends(_existing_run)]


async def only_known_parameters(request: Request) -> None:
    """Raises InvalidInputError: where a misspelt `dry_run` were passed over, it would start a training."""
    if request.scope["query_string"]:
        known = [field.alias for field in request.scope["route"].dependant.query_params]
        for name in request.query_params.keys() - set(known):
            expected = ", ".join(known) or "none"
            raise InvalidInputError(f"there is no parameter {name[:100]!r}; expected {expected}", "query", name[:100])
