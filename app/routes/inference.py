"""/v2: the Open Inference Protocol, for clients of other serving systems.

A model's name is an id or an alias; its one version is the id of the model that answers by that name.
"""

from contextlib import suppress
from importlib.metadata import version as version_of
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from app.aliases import DEFAULT
from app.dependencies import ModelName, PredictorDep, RegistryDep, SettingsDep
from app.drawings import Drawing
from app.errors import MediaTypeError, ModelNotFoundError, NotFoundError, describe
from app.inference_schemas import (
    INPUTS,
    OUTPUTS,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    request_schema,
)
from app.predictor import Answers, Predictor
from app.request_bodies import parsed
from app.schemas import MODEL_ID
from app.tensors import HEADER_LENGTH, read_images, read_request, write_outputs

router = APIRouter(prefix="/v2", tags=["inference"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY = {
    "required": True,
    "content": {"application/json": {"schema": request_schema()}, "application/octet-stream": _BINARY},
}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "responses": {200: {"content": {"application/octet-stream": _BINARY}}, **describe(404, 409, 422)},
    "openapi_extra": {"requestBody": _REQUEST_BODY},
}

Version = Annotated[str, Path(description="A model's id", examples=[MODEL_ID])]
HeaderLength = Annotated[
    int | None,
    Header(alias=HEADER_LENGTH, ge=0, description="Bytes of the JSON, where tensors follow it", examples=[181]),
]


class Target(NamedTuple):
    """A model as a request names it, and as the predictor is asked for it."""

    name: str
    model: str | None  # None: the default, or for its share of requests the candidate beside it


async def _latest(model: ModelName) -> Target:
    return Target(model, None if model == DEFAULT else model)


def _of_version(model: ModelName, version: Version, registry: RegistryDep) -> Target:
    """An alias may be asked for any model by its version, an id for itself alone."""
    asked, answering = registry.id_of(model), None
    with suppress(ModelNotFoundError):
        answering = registry.id_of(version)
    if answering != version or asked == model != version:
        raise NotFoundError(f"model {model!r} has no version {version!r}; GET /v2/models/{model} tells its version")
    return Target(model, version)


class Question(NamedTuple):
    """A request, and its images: [N, 28, 28] uint8 in the network's form, or image files."""

    request: InferRequest
    images: NDArray[np.uint8] | list[Drawing]
    deadline: float


async def _question(
    request: Request, settings: SettingsDep, predictor: PredictorDep, header_length: HeaderLength = None
) -> Question:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise MediaTypeError("a compressed body is not taken here", "header", "content-encoding")

    def read(body: bytes) -> Question:
        asked, binary = read_request(body, header_length)
        images = read_images(asked.inputs[0], binary, max_images=settings.max_images)
        return Question(asked, images, predictor.deadline())

    return await parsed(read, await request.body())


Latest = Annotated[Target, Depends(_latest)]
OfVersion = Annotated[Target, Depends(_of_version)]
QuestionDep = Annotated[Question, Depends(_question)]


@router.get("")
async def read_server() -> ServerMetadata:
    """Who speaks the Open Inference Protocol here."""
    return ServerMetadata(version=version_of("inkling"))


@router.get("/health/live")
async def read_liveness() -> ServerLive:
    """The process answers."""
    return ServerLive()


@router.get("/health/ready")
async def read_readiness(predictor: PredictorDep) -> ServerReady:
    """The default model is warm."""
    _ = predictor.default
    return ServerReady()


@router.get("/models/{model}", responses=describe(404, 409))
async def read_model_metadata(target: Latest, predictor: PredictorDep) -> ModelMetadata:
    """What a model takes and gives."""
    return await _metadata(target, predictor)


@router.get("/models/{model}/versions/{version}", responses=describe(404, 409))
async def read_version_metadata(target: OfVersion, predictor: PredictorDep) -> ModelMetadata:
    """What a version of a model takes and gives."""
    return await _metadata(target, predictor)


@router.get("/models/{model}/ready", responses=describe(404, 409))
async def read_model_readiness(target: Latest, predictor: PredictorDep) -> ModelReady:
    """A model is warm; asking makes it so."""
    return await _ready(target, predictor)


@router.get("/models/{model}/versions/{version}/ready", responses=describe(404, 409))
async def read_version_readiness(target: OfVersion, predictor: PredictorDep) -> ModelReady:
    """A version of a model is warm; asking makes it so."""
    return await _ready(target, predictor)


@router.post("/models/{model}/infer", **_INFER)
async def infer(target: Latest, question: QuestionDep, predictor: PredictorDep) -> Response:
    """Names the digits of images."""
    return await _answer(target, question, predictor)


@router.post("/models/{model}/versions/{version}/infer", **_INFER)
async def infer_by_version(target: OfVersion, question: QuestionDep, predictor: PredictorDep) -> Response:
    """Names the digits of images by one version of a model."""
    return await _answer(target, question, predictor)


async def _metadata(target: Target, predictor: Predictor) -> ModelMetadata:
    model = await predictor.model(target.model)
    return ModelMetadata(name=target.name, versions=[model.id], inputs=INPUTS, outputs=OUTPUTS)


async def _ready(target: Target, predictor: Predictor) -> ModelReady:
    await predictor.model(target.model)
    return ModelReady(name=target.name)


async def _answer(target: Target, question: Question, predictor: Predictor) -> Response:
    images, deadline = question.images, question.deadline
    ink = images if isinstance(images, np.ndarray) else await predictor.prepare(images, deadline)
    answers = await predictor.answer(list(ink), target.model, deadline)
    arrays, wanted = _outputs(answers), question.request.wanted()
    outputs, blobs = write_outputs({name: arrays[name] for name in wanted}, wanted)
    answer = InferResponse(model_name=target.name, model_version=answers.model, id=question.request.id, outputs=outputs)
    content = answer.model_dump_json(exclude_none=True).encode()
    if not blobs:
        return Response(content, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(content))}
    return Response(b"".join((content, *blobs)), headers=headers, media_type="application/octet-stream")


def _outputs(answers: Answers) -> dict[str, NDArray[Any]]:
    probabilities, scores = np.array(answers.probabilities), np.array(answers.digit_scores)
    return {
        "probabilities": probabilities,
        "digit": probabilities.argmax(axis=1),
        "is_digit": scores >= 0,
        "digit_score": scores,
    }
