"""/predict: which digit a drawing shows, in every form that a drawing may be sent."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from app.dependencies import PredictorDep, SettingsDep
from app.errors import InvalidInputError, MediaTypeError, TooLargeError, describe
from app.predictions import Prediction, PredictionList, PredictRequest
from app.predictor import Predictor
from app.schemas import MODEL_ID
from model.drawing import DrawingError, ImageTooLargeError, from_image, from_pixels

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")

router = APIRouter(tags=["predict"])

Include = Annotated[Sequence[Literal["seen"]], Query(description="Extra fields of the answer", examples=[["seen"]])]
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
    response_model_exclude_none=True,
    responses=describe(404, 413, 415, 422, 503),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def predict(
    request: Request,
    predictor: PredictorDep,
    settings: SettingsDep,
    model: Model = None,
    include: Include = (),
) -> Prediction | PredictionList:
    """Names the digit of one drawing, or of each of many (`images`)."""
    drawings = await _read(request)
    if len(drawings) > settings.max_images:
        raise InvalidInputError(
            f"{len(drawings)} images; at most {settings.max_images} in one request", "body", "images"
        )
    predictions = await asyncio.to_thread(_predict, predictor, model, drawings, "seen" in include)
    many = "images" in drawings[0].field
    return PredictionList(predictions=predictions) if many else predictions[0]


class Drawing(NamedTuple):
    """A drawing as it was sent, and the path of the field that it came in."""

    content: bytes | list[list[float]]  # an image file, or rows of gray values
    field: tuple[str | int, ...]

    def prepared(self) -> NDArray[np.uint8]:
        """[28, 28] uint8, ink high. Raises InvalidInputError, or TooLargeError, for what cannot be a drawing."""
        try:
            return from_image(self.content) if isinstance(self.content, bytes) else from_pixels(self._grid())
        except ImageTooLargeError as error:
            raise TooLargeError(str(error), *self.field) from None
        except DrawingError as error:
            raise InvalidInputError(str(error), *self.field) from None

    def _grid(self) -> NDArray[np.float64]:
        if len({len(row) for row in self.content}) != 1:  # type: ignore[arg-type]
            raise InvalidInputError("the rows have different lengths, or there are none", *self.field)
        return np.array(self.content, np.float64)


async def _read(request: Request) -> list[Drawing]:
    """At least one drawing; several only from JSON's `images`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return [await _read_form(request)]
    if media_type in IMAGE_TYPES:
        return [Drawing(await request.body(), ("body", "image"))]
    if media_type == "application/json":
        return await asyncio.to_thread(_read_json, await request.body())
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
    request = _parse(body)
    if request.image is not None:
        return [Drawing(_decode(request.image, ("body", "image")), ("body", "image"))]
    if request.pixels is not None:
        return [Drawing(request.pixels, ("body", "pixels"))]
    fields = [(item, ("body", "images", index)) for index, item in enumerate(request.images or [])]
    return [Drawing(_decode(item, field) if isinstance(item, str) else item, field) for item, field in fields]


def _parse(body: bytes) -> PredictRequest:
    try:
        given = from_json(body)
        if isinstance(given, dict) and len(given) > 1:  # looked at first: a million unknown fields are a million errors
            raise InvalidInputError(f"{len(given)} fields; give exactly one of image, pixels and images", "body")
        return PredictRequest.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in errors]) from None
    except ValueError as error:
        raise InvalidInputError(f"not JSON: {error}", "body") from None


def _decode(text: str, field: tuple[str | int, ...]) -> bytes:
    """Base64, alone or in a data URL (RFC 2397)."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise InvalidInputError(f"not base64: {error}", *field) from None


def _predict(predictor: Predictor, model: str | None, drawings: list[Drawing], seen: bool) -> list[Prediction]:
    warm = predictor.model(model)
    images = np.stack([drawing.prepared() for drawing in drawings])  # [N, 28, 28]
    return [
        Prediction(
            digit=int(chances.argmax()),
            confidence=float(chances.max()),
            probabilities=chances.tolist(),
            model=warm.id,
            seen=image.tolist() if seen else None,
        )
        for image, chances in zip(images, warm.probabilities(images), strict=True)
    ]
