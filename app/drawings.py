"""Drawings as they are sent, and what they become before a network sees them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import InklingError, InvalidInputError, TooLargeError
from model.drawing import DrawingError, ImageTooLargeError, from_image, from_pixels

SMALL_PIXELS = 28 * 28  # so few are prepared sooner than a thread is woken


class Drawing(NamedTuple):
    """A drawing as it was sent, and the path of the field that it came in."""

    content: bytes | list[list[float]]  # an image file, or rows of gray values
    field: tuple[str | int, ...]

    @property
    def is_small(self) -> bool:
        return isinstance(self.content, list) and sum(map(len, self.content)) <= SMALL_PIXELS

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


def prepared(drawings: Sequence[Drawing]) -> list[NDArray[np.uint8] | Exception]:
    """Each drawing in the network's form, or what is wrong with it."""
    return [_prepared(drawing) for drawing in drawings]


def _prepared(drawing: Drawing) -> NDArray[np.uint8] | Exception:
    try:
        return drawing.prepared()
    except InklingError as error:
        return error
