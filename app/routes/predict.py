"""/predict: which digit a drawing shows, in every form that a drawing may be sent."""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from app.drawings import Drawing
from app.errors import InvalidInputError, MediaTypeError, describe
from app.explanations import MAX_EXPLAINED_IMAGES, explain
from app.predictions import Prediction, PredictionList, PredictRequest
from app.predictor import Answers, Predictor
from app.schemas import MODEL_ID
from app.settings import Settings

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
SMALL_BODY_BYTES = 16_384  # so much JSON is read sooner than a thread is woken


class _QuickRoute(APIRoute):
    """Without a query there is nothing that FastAPI would have to parse for the route, which takes half its time."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_quickly(request: Request) -> Response:
            return await (handle if request.scope["query_string"] else self.endpoint)(request)

        return handle_quickly


router = APIRouter(tags=["predict"], route_class=_QuickRoute)

Include = Annotated[
    Sequence[Literal["seen", "saliency", "activations"]],
    Query(
        description="Extra fields of the answer; saliency and activations for 16 images at most", examples=[["seen"]]
    ),
]
Model = Annotated[str | None, Query(description="A model's id or alias; the default if left out", examples=[MODEL_ID])]

_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["image"], "properties": {"image": _BINARY}},
        },
        **{media_type: {"schema": _BINARY} for media_type in IMAGE_TYPES},
        "application/json": {"schema": PredictRequest.model_json_schema()},
    },
}


@router.post(
    "/predict",
    response_model=Prediction | PredictionList,
    responses=describe(404, 409, 413, 415, 422, 503),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(request: Request, model: Model = None, include: Include = ()) -> Response:
    """Names the digit of one drawing, or of each of many (`images`)."""
    predictor: Predictor = request.state.predictor
    deadline = predictor.deadline()
    drawings = await _read(request)
    _check_count(drawings, request.state.settings)
    if {*include} - {"seen"}:
        _check_explained(drawings)
    images = await _prepare(predictor, drawings, deadline)
    answers = await predictor.answer(images, model, deadline)
    predictions = _predictions(answers, images, "seen" in include)
    if {*include} - {"seen"}:
        warm = await asyncio.to_thread(predictor.model, answers.model)
        predictions = await explain(warm, images, predictions, include, deadline)
    many = "images" in drawings[0].field
    return _json(PredictionList.model_construct(predictions=predictions) if many else predictions[0])


def _check_count(drawings: Sequence[Drawing], settings: Settings) -> None:
    if len(drawings) > settings.max_images:
        raise InvalidInputError(
            f"{len(drawings)} images; at most {settings.max_images} in one request", "body", "images"
        )


def _check_explained(drawings: Sequence[Drawing]) -> None:
    if len(drawings) > MAX_EXPLAINED_IMAGES:
        reason = f"{len(drawings)} images; saliency and activations are given for at most {MAX_EXPLAINED_IMAGES}"
        raise InvalidInputError(reason, "query", "include")


async def _prepare(predictor: Predictor, drawings: list[Drawing], deadline: float) -> list[NDArray[np.uint8]]:
    if len(drawings) == 1 and drawings[0].is_small:
        return [drawings[0].prepared()]
    return await predictor.prepare(drawings, deadline)


def _predictions(answers: Answers, images: Sequence[NDArray[np.uint8]], seen: bool) -> list[Prediction]:
    """Built without validation, which would cost more than the network."""
    return [
        Prediction.model_construct(
            digit=int(chances.argmax()),
            confidence=float(chances.max()),
            probabilities=chances.tolist(),
            is_digit=score >= 0,
            digit_score=score,
            model=answers.model,
            seen=image.tolist() if seen else None,
        )
        for image, chances, score in zip(images, answers.probabilities, answers.digit_scores.tolist(), strict=True)
    ]


def _json(answer: Prediction | PredictionList) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


async def _read(request: Request) -> list[Drawing]:
    """At least one drawing; several only from JSON's `images`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return [await _read_form(request)]
    if media_type in IMAGE_TYPES:
        return [Drawing(await request.body(), ("body", "image"))]
    if media_type == "application/json":
        body = await request.body()
        return _read_json(body) if len(body) <= SMALL_BODY_BYTES else await asyncio.to_thread(_read_json, body)
    accepted = ", ".join(("multipart/form-data", *IMAGE_TYPES, "application/json"))
    raise MediaTypeError(
        f"Content-Type is {media_type or 'missing'}; expected one of {accepted}", "header", "content-type"
    )


async def _read_form(request: Request) -> Drawing:
    async with request.form(max_files=1, max_fields=1) as form:
        upload = form.get("image")
        if not isinstance(upload, UploadFile):
            raise InvalidInputError("the form has no file in its field 'image'", "body", "image")
        return Drawing(await upload.read(), ("body", "image"))


def _read_json(body: bytes) -> list[Drawing]:
    given = _parse(body)
    if isinstance(given, np.ndarray):
        return [Drawing(given, ("body", "pixels"))]
    if given.image is not None:
        return [_drawing(given.image, "body", "image")]
    if given.pixels is not None:
        return [_drawing(given.pixels, "body", "pixels")]
    return [_drawing(item, "body", "images", index) for index, item in enumerate(given.images or [])]


def _parse(body: bytes) -> PredictRequest | NDArray[np.generic]:
    """Pixels alone come back as an array, [H, W]: NumPy validates them in a third of the time."""
    try:
        given = from_json(body)
        if isinstance(given, dict) and len(given) > 1:  # looked at first: a million unknown fields are a million errors
            raise InvalidInputError(f"{len(given)} fields; give exactly one of image, pixels and images", "body")
        if isinstance(given, dict) and (pixels := _numbers(given.get("pixels"))) is not None:
            return pixels
        return PredictRequest.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in errors]) from None
    except ValueError as error:
        raise InvalidInputError(f"not JSON: {error}", "body") from None


def _numbers(rows: Any) -> NDArray[np.generic] | None:
    """None for what is not rows of numbers, all of one length."""
    try:
        numbers = np.array(rows)
    except (ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 2 and numbers.dtype.kind in "if" else None


def _drawing(sent: str | list[list[float]], *field: str | int) -> Drawing:
    if isinstance(sent, str):
        return Drawing(_decode(sent, field), field)
    if len({len(row) for row in sent}) != 1:
        raise InvalidInputError("the rows have different lengths, or there are none", *field)
    return Drawing(np.array(sent), field)


def _decode(text: str, field: tuple[str | int, ...]) -> bytes:
    """Base64, alone or in a data URL (RFC 2397)."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise InvalidInputError(f"not base64: {error}", *field) from None
