"""/aliases, /models/default and /models/candidate: which model answers to which name."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.aliases import DEFAULT, Candidate
from app.dependencies import PredictorDep, RegistryDep
from app.errors import describe
from app.model_schemas import (
    AliasChoice,
    AliasInfo,
    AliasList,
    CandidateChoice,
    CandidateInfo,
    DefaultModel,
    ModelInfo,
)
from app.predictor import Predictor
from app.schemas import ALIAS_NAME
from app.users import KEYED

MAX_CHOICE_BYTES = 1_000

router = APIRouter(tags=["aliases"])

Alias = Annotated[str, Path(pattern=ALIAS_NAME, description="An alias", examples=["room-12"])]


@router.put("/models/default", dependencies=[KEYED], max_body_size=MAX_CHOICE_BYTES, responses=describe(404, 409))
async def choose_default(choice: DefaultModel, registry: RegistryDep, predictor: PredictorDep) -> ModelInfo:
    """Pins the model that answers /predict; with null, the best model answers again, now and from now on."""
    if choice.model is not None:
        await predictor.model(choice.model)  # one that cannot be loaded never becomes the default

    def choose() -> ModelInfo:
        registry.pin_default(choice.model)
        predictor.refresh()
        return registry.model(DEFAULT)

    return await asyncio.to_thread(choose)


@router.put("/models/candidate", dependencies=[KEYED], max_body_size=MAX_CHOICE_BYTES, responses=describe(404, 409))
async def choose_candidate(choice: CandidateChoice, registry: RegistryDep, predictor: PredictorDep) -> CandidateInfo:
    """Tries a model beside the default: on a share of the predictions, or in its shadow.

    The trial ends when the candidate becomes the default.
    """
    if choice.model is not None:
        await predictor.model(choice.model)  # one that cannot be loaded never becomes the candidate

    def choose() -> CandidateInfo:
        registry.try_beside_default(choice.model, share=choice.share, shadow=choice.shadow)
        predictor.refresh()
        return _candidate(registry.candidate(), predictor)

    return await asyncio.to_thread(choose)


@router.get("/models/candidate")
def read_candidate(registry: RegistryDep, predictor: PredictorDep) -> CandidateInfo:
    """The model that is tried beside the default, and how often both agreed, whichever process answered."""
    return _candidate(registry.candidate(), predictor)


def _candidate(candidate: Candidate | None, predictor: Predictor) -> CandidateInfo:
    model, share, shadow = candidate or (None, 0.0, False)
    answered, compared, agreed = predictor.candidate_counts()
    return CandidateInfo(model=model, share=share, shadow=shadow, answered=answered, compared=compared, agreed=agreed)


@router.get("/aliases")
def list_aliases(registry: RegistryDep) -> AliasList:
    """Every name that stands for a model, `default` and `candidate` among them."""
    return AliasList(aliases=registry.aliases())


@router.put("/aliases/{alias}", dependencies=[KEYED], max_body_size=MAX_CHOICE_BYTES, responses=describe(404))
def point_alias(alias: Alias, choice: AliasChoice, registry: RegistryDep) -> AliasInfo:
    """Makes a name stand for a model, which cannot be deleted meanwhile; or for another than so far."""
    return registry.point(alias, choice.model)


@router.delete(
    "/aliases/{alias}",
    dependencies=[KEYED],
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    responses=describe(404),
)
def drop_alias(alias: Alias, registry: RegistryDep) -> None:
    """Forgets a name; its model stays."""
    registry.drop(alias)
