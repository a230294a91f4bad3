"""From the body of a request to drawings, in every form that they may be sent."""

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import from_json

from app.computing import computed
from app.drawings import Drawing, decoded
from app.errors import InvalidInputError, MediaTypeError
from app.predict_schemas import PredictRequest

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
SMALL_BODY_BYTES = 16_384  # so much JSON is read sooner than a thread is woken
_IN_THE_QUERY = "model, include and segment go into the query"

Parsed = TypeVar("Parsed")


async def read_drawings(request: Request) -> list[Drawing]:
    """At least one drawing; several only from JSON's `images`."""
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        return [await _read_form(request)]
    if media_type in IMAGE_TYPES:
        return [Drawing(await request.body(), ("body", "image"))]
    if media_type == "application/json":
        return await parsed(_read_json, await request.body())
    accepted = ", ".join(("multipart/form-data", *IMAGE_TYPES, "application/json"))
    raise unexpected_type(media_type, f"one of {accepted}")


async def parsed(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """What a JSON body says; a large one is read in a thread, so that it holds up nobody."""
    body = body.removeprefix(BOM_UTF8)  # which many a program of Windows writes first
    return parse(body) if len(body) <= SMALL_BODY_BYTES else await computed(parse, body)


def media_type_of(request: Request) -> str:
    """The media type of the request's body; empty where it names none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unexpected_type(media_type: str, expected: str) -> MediaTypeError:
    return MediaTypeError(f"Content-Type is {media_type or 'missing'}; expected {expected}", "header", "content-type")


async def _read_form(request: Request) -> Drawing:
    async with request.form(max_files=2) as form:
        upload = form.get("image")
        if isinstance(upload, str):
            raise InvalidInputError("the form's 'image' has no filename, and so is text; send a file", "body", "image")
        if upload is None:
            raise InvalidInputError("the form has no file in its field 'image'", "body", "image")
        if len(form.getlist("image")) > 1:
            raise InvalidInputError("a form has one 'image'; JSON's `images` has many", "body", "image")
        if other := next((name for name in form if name != "image"), None):
            raise InvalidInputError(f"a form has the field 'image' alone; {_IN_THE_QUERY}", "body", other[:100])
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


def _parse(body: bytes) -> PredictRequest | NDArray[np.uint8]:
    """Pixels alone come back as an array, [H, W]: as bytes they are validated in a tenth of pydantic's time."""
    try:
        given = from_json(body)
        if isinstance(given, dict):
            # Many a client writes null for what it does not say.
            given = {name: value for name, value in given.items() if value is not None}
            if len(given) > 1:  # looked at first: a million unknown fields are a million errors
                raise InvalidInputError(
                    f"{len(given)} fields; give exactly one of image, pixels and images; {_IN_THE_QUERY}", "body"
                )
            has_booleans = b"true" in body or b"false" in body  # numbers to Python, and an error to pydantic
            if not has_booleans and (pixels := _levels(given.get("pixels"))) is not None:
                return pixels
        return PredictRequest.model_validate(given)
    except ValidationError as error:
        raise invalid_body(error) from None
    except ValueError as error:
        raise InvalidInputError(f"not JSON: {error}", "body") from None


def invalid_body(error: ValidationError) -> RequestValidationError:
    """The error that FastAPI itself would raise for this body."""
    errors = error.errors(include_url=False, include_input=False)
    return RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in errors])


def _levels(rows: Any) -> NDArray[np.uint8] | None:
    """[H, W]; None for what is not rows of whole numbers from 0 to 255, all of one length."""
    if not isinstance(rows, list) or {*map(type, rows)} != {list} or len({*map(len, rows)}) != 1:
        return None
    try:
        return np.frombuffer(b"".join(map(bytes, rows)), np.uint8).reshape(len(rows), -1)
    except (TypeError, ValueError):
        return None


def _drawing(sent: str | list[list[float]], *field: str | int) -> Drawing:
    if isinstance(sent, str):
        return Drawing(_decode(sent, field), field)
    if len({len(row) for row in sent}) != 1:
        raise InvalidInputError("the rows have different lengths, or there are none", *field)
    return Drawing(np.array(sent), field)


def _decode(text: str, field: tuple[str | int, ...]) -> bytes:
    try:
        return decoded(text)
    except ValueError as error:
        raise InvalidInputError(f"not base64: {error}", *field) from None
