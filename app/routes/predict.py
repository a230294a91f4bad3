"""/predict: which digit a drawing shows, in every form that a drawing may be sent."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.drawings import Drawing
from app.errors import InvalidInputError, describe
from app.explanations import MAX_EXPLAINED_IMAGES, explain
from app.predict_schemas import Fields, NumberPrediction, Prediction, PredictionList, PredictRequest
from app.predictor import Predictor
from app.request_bodies import IMAGE_TYPES, read_drawings
from app.schemas import MODEL_ID
from app.settings import Settings

router = APIRouter(tags=["predict"])

Include = Annotated[
    Sequence[Literal["seen", "saliency", "activations"]],
    Query(
        description="Extra fields of the answer; saliency and activations for 16 images at most", examples=[["seen"]]
    ),
]
Model = Annotated[str | None, Query(description="A model's id or alias; the default if left out", examples=[MODEL_ID])]

Segment = Annotated[
    bool, Query(description="Reads the digits of a number that is drawn in one picture", examples=[True])
]

_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": _BINARY},
                "additionalProperties": False,
            },
        },
        **{media_type: {"schema": _BINARY} for media_type in IMAGE_TYPES},
        "application/json": {"schema": PredictRequest.model_json_schema()},
    },
}


@router.post(
    "/predict",
    response_model=Prediction | PredictionList | NumberPrediction,
    responses=describe(404, 409, 422),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(request: Request, model: Model = None, include: Include = (), segment: Segment = False) -> Response:
    """Names the digit of one drawing, of each of many (`images`), or of each of a number's digits (`segment`)."""
    predictor: Predictor = request.state.predictor
    drawings = await read_drawings(request)
    _check_count(drawings, request.state.settings)
    asked = _Question(predictor, model, include, predictor.deadline())
    if segment:
        return _json(await _number(asked, drawings))
    predictions = await _predictions(asked, await _prepare(predictor, drawings, asked.deadline))
    return _json({"predictions": predictions} if "images" in drawings[0].field else predictions[0])


class QuickPredict:
    """Answers what has no query before FastAPI's layers, which take longer than a prediction.

    What raises is answered by them: they find the error where they read the body.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app, self._max_body_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._takes(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = router.routes[0]
        try:
            response = await predict(Request(scope, receive))
        except Exception as error:  # noqa: BLE001 - the layers tell which are expected
            await self._app(scope, partial(_raise, error), send)
        else:
            await response(scope, receive, send)

    def _takes(self, scope: Scope) -> bool:
        """A body of unknown length has to be counted, and a trace names the route that FastAPI finds."""
        if scope["type"] != "http" or (scope["path"], scope["method"], scope["query_string"]) != _PLAIN_PREDICT:
            return False
        length = dict(scope["headers"]).get(b"content-length", b"")
        return length.isdigit() and int(length) <= self._max_body_bytes and "fastapi.telemetry" not in scope


_PLAIN_PREDICT = ("/predict", "POST", b"")


async def _raise(error: Exception) -> Message:
    raise error


class _Question(NamedTuple):
    predictor: Predictor
    model: str | None
    include: Sequence[str]
    deadline: float

    @property
    def explains(self) -> bool:
        return bool({*self.include} - {"seen"})


def _check_count(drawings: Sequence[Drawing], settings: Settings) -> None:
    if len(drawings) > settings.max_images:
        raise InvalidInputError(
            f"{len(drawings)} images; at most {settings.max_images} in one request", "body", "images"
        )


async def _prepare(predictor: Predictor, drawings: list[Drawing], deadline: float) -> list[NDArray[np.uint8]]:
    if len(drawings) == 1 and drawings[0].is_small:
        return [drawings[0].prepared()]
    return await predictor.prepare(drawings, deadline)


async def _number(asked: _Question, drawings: Sequence[Drawing]) -> Fields:
    if len(drawings) > 1:
        raise InvalidInputError(f"{len(drawings)} images; a number is read in one at a time", "query", "segment")
    segments = await asked.predictor.segment(drawings[0], asked.deadline)
    predictions = await _predictions(asked, [segment.image for segment in segments])
    digits = [
        {**prediction, "box": list(segment.box)} for prediction, segment in zip(predictions, segments, strict=True)
    ]
    return {"number": "".join(str(digit["digit"]) for digit in digits), "digits": digits}


async def _predictions(asked: _Question, images: Sequence[NDArray[np.uint8]]) -> list[Fields]:
    if asked.explains and len(images) > MAX_EXPLAINED_IMAGES:
        reason = f"{len(images)} images; saliency and activations are given for at most {MAX_EXPLAINED_IMAGES}"
        raise InvalidInputError(reason, "query", "include")
    answers = await asked.predictor.answer(images, asked.model, asked.deadline)
    predictions = [
        _prediction(answers.model, *answer) for answer in zip(answers.probabilities, answers.digit_scores, strict=True)
    ]
    if "seen" in asked.include:
        predictions = [{**one, "seen": image.tolist()} for one, image in zip(predictions, images, strict=True)]
    if not asked.explains:
        return predictions
    return await explain(answers.warm, images, predictions, asked.include, asked.deadline)


def _prediction(model: str, probabilities: list[float], digit_score: float) -> Fields:
    confidence = max(probabilities)
    return {
        "digit": probabilities.index(confidence),
        "confidence": confidence,
        "probabilities": probabilities,
        "is_digit": digit_score >= 0,
        "digit_score": digit_score,
        "model": model,
    }


def _json(answer: Fields) -> Response:
    return Response(to_json(answer, inf_nan_mode="null"), media_type="application/json")
