"""Drawings as they are sent, and what they become before a network sees them."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import InklingError, InvalidInputError, TooLargeError
from model.decoding import DrawingError, ImageTooLargeError
from model.drawing import from_image, from_pixels
from model.segmentation import Segment, segment, segment_pixels

SMALL_PIXELS = 28 * 28  # so few are prepared sooner than a thread is woken

Result = TypeVar("Result")


class Drawing(NamedTuple):
    """A drawing as it was sent, and the path of the field that it came in."""

    content: bytes | NDArray[Any]  # an image file, or gray values, [H, W]
    field: tuple[str | int, ...]

    @property
    def is_small(self) -> bool:
        return isinstance(self.content, np.ndarray) and self.content.size <= SMALL_PIXELS

    def prepared(self) -> NDArray[np.uint8]:
        """[28, 28] uint8, ink high. Raises InvalidInputError, or TooLargeError, for what cannot be a drawing."""
        return self._naming_the_field(from_image if isinstance(self.content, bytes) else from_pixels)

    def segments(self) -> list[Segment]:
        """Its digits from left to right. Raises as `prepared`."""
        return self._naming_the_field(segment if isinstance(self.content, bytes) else segment_pixels)

    def _naming_the_field(self, act: Callable[[Any], Result]) -> Result:
        try:
            return act(self.content)
        except ImageTooLargeError as error:
            raise TooLargeError(str(error), *self.field) from None
        except DrawingError as error:
            raise InvalidInputError(str(error), *self.field) from None


def decoded(text: str) -> bytes:
    """Base64, in lines (RFC 2045) or not, alone or in a data URL (RFC 2397). Raises ValueError."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    return base64.b64decode("".join(encoded.split()), validate=True)


def prepared(drawings: Sequence[Drawing]) -> list[NDArray[np.uint8] | Exception]:
    """Each drawing in the network's form, or what is wrong with it."""
    return [_attempt(drawing.prepared) for drawing in drawings]


def segmented(drawings: Sequence[Drawing]) -> list[list[Segment] | Exception]:
    """Each drawing's digits, or what is wrong with it."""
    return [_attempt(drawing.segments) for drawing in drawings]


def _attempt(act: Callable[[], Result]) -> Result | Exception:
    try:
        return act()
    except InklingError as error:
        return error
