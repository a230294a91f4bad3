"""Takes a number that is drawn in one picture apart into its digits, from left to right."""

import math
from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from model.decoding import BlankDrawingError, DrawingError, Picture, decode, gray_picture
from model.drawing import bounds, cropped, form_of, has_network_form, inked, pen_width
from model.ink import ink_of
from model.paper import Levels

MAX_DIGITS = 32
SIDE = 280  # px, at least, of the longer side: six digits keep 40 each
MAX_PIECES = 4 * MAX_DIGITS  # of ink, before those of one digit are joined

# Shares of the height of the tallest piece, which is that of a digit
DOT = 0.2  # what is smaller in height and in width is no part of a digit
SHORT = 0.6  # what is lower is no digit either, but a part of the nearest: a 5's bar, half of a 4
REACH = 0.25  # between a short piece and its digit
WIDE = 1.35  # a digit that is wider is looked at for a bridge between two
NARROWEST = 0.2  # what a cut leaves

COVERED = 0.4  # of the narrower of two pieces lies above or below the other: they are one digit, an open 4
ROW_GAP = 0.2  # at least, between digits above one another; an 8 of two circles has less
BRIDGE = 1.7  # pen widths of ink in a column, at most, where two digits touch

Box = tuple[int, int, int, int]


class TooManyDigitsError(DrawingError):
    """There is more in the picture than one number."""


class Segment(NamedTuple):
    image: Levels  # [28, 28] uint8, the network's form
    box: Box  # left, top, width, height in pixels of the picture as it was sent, upright


class Piece(NamedTuple):
    ink: Levels  # [height, width], nothing but this piece's
    left: int
    top: int

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


def segment(image_bytes: bytes) -> list[Segment]:
    """Finds the digits in a PNG, JPEG or WebP file, at most 32, from left to right.

    Each `image` is in the network's form, as `model.drawing.from_image` brings a lone digit into it.
    Raises UnreadableImageError, ImageTooLargeError, BlankDrawingError or TooManyDigitsError.
    """
    return _segments(decode(image_bytes, side=2 * SIDE))


def segment_pixels(pixels: NDArray[np.generic]) -> list[Segment]:
    """Finds the digits in gray levels, [H, W] from 0 to 255. Raises as `segment`, and DrawingError for other pixels."""
    return _segments(gray_picture(pixels))


def _segments(picture: Picture) -> list[Segment]:
    ink = ink_of(picture.image, side=SIDE)
    if has_network_form(ink):
        return [Segment(ink.copy(), _box(_trimmed(Piece(ink, 0, 0)), 1, 1))]
    ink = inked(ink)
    across, down = picture.width / ink.shape[1], picture.height / ink.shape[0]
    digits = _digits(ink)
    if len(digits) > MAX_DIGITS:
        raise TooManyDigitsError(f"{len(digits)} digits are drawn: send at most {MAX_DIGITS} at once")
    return [Segment(form_of(digit.ink), _box(digit, across, down)) for digit in digits]


def _box(piece: Piece, across: float, down: float) -> Box:
    left, top = round(piece.left * across), round(piece.top * down)
    return left, top, round(piece.right * across) - left, round(piece.bottom * down) - top


def _digits(ink: Levels) -> list[Piece]:
    pen = pen_width(cropped(ink))
    pieces = _pieces(ink)
    _check_row(pieces)
    joined = _joined(pieces)
    height = max(piece.height for piece in joined)
    parts = [part for piece in joined for part in _cut(piece, height, pen)]
    return sorted(parts, key=lambda part: part.left + part.right)


def _pieces(ink: Levels) -> list[Piece]:
    labels, _ = ndimage.label(ink, np.ones((3, 3)))
    boxes = [(index, rows, columns) for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)]
    tallest = max(rows.stop - rows.start for _, rows, _ in boxes)
    least = max(DOT * tallest, 3)
    boxes = [box for box in boxes if max(box[1].stop - box[1].start, box[2].stop - box[2].start) >= least]
    if not boxes:
        raise BlankDrawingError("nothing but dots is drawn: draw digits")
    if len(boxes) > MAX_PIECES:
        raise TooManyDigitsError(f"there are {len(boxes)} pieces of ink: send a number of at most {MAX_DIGITS} digits")
    return [Piece(ink[y, x] * (labels[y, x] == index), x.start, y.start) for index, y, x in boxes]


def _check_row(pieces: list[Piece]) -> None:
    """Raises TooManyDigitsError where two pieces, both as tall as a digit, stand above one another."""
    height = max(piece.height for piece in pieces)
    tall = [piece for piece in pieces if piece.height >= SHORT * height]
    for one, other in combinations(tall, 2):
        gap = max(one.top, other.top) - min(one.bottom, other.bottom)
        if gap >= ROW_GAP * height and _nearness(one, other, height) >= COVERED:
            raise TooManyDigitsError("digits are drawn above one another: draw one row at a time")


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces above one another are one digit: a 5 and its bar, a 4 with a gap."""
    height = max(piece.height for piece in pieces)
    covering = _gathered(sorted(pieces, key=lambda piece: -piece.width), COVERED, math.inf, height)
    return _gathered(sorted(covering, key=lambda piece: -piece.height), -REACH, SHORT * height, height)


def _gathered(pieces: Iterable[Piece], nearest: float, tall: float, height: int) -> list[Piece]:
    """Adds each piece that is not tall to the piece before it that it is nearest to."""
    gathered: list[Piece] = []
    for piece in pieces:
        near = [_nearness(other, piece, height) for other in gathered]
        if piece.height >= tall or max(near, default=-math.inf) < nearest:
            gathered.append(piece)
        else:
            found = int(np.argmax(near))
            gathered[found] = _union(gathered[found], piece)
    return gathered


def _nearness(one: Piece, other: Piece, height: int) -> float:
    """The share of the narrower piece that lies above or below the other; below 0 the gap, in heights of a digit."""
    common = min(one.right, other.right) - max(one.left, other.left)
    return common / (min(one.width, other.width) if common > 0 else height)


def _union(*pieces: Piece) -> Piece:
    left, top = min(piece.left for piece in pieces), min(piece.top for piece in pieces)
    right, bottom = max(piece.right for piece in pieces), max(piece.bottom for piece in pieces)
    ink = np.zeros((bottom - top, right - left), np.uint8)
    for piece in pieces:
        ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left] |= piece.ink
    return Piece(ink, left, top)


def _cut(piece: Piece, height: int, pen: float) -> list[Piece]:
    """Cuts where the ink of a column is a thin bridge between two digits, as often as what is left is wide."""
    if piece.width < WIDE * height:
        return [piece]
    column = _bridge(piece.ink > 0, height, pen)
    if column is None:
        return [piece]
    before = Piece(piece.ink[:, :column], piece.left, piece.top)
    behind = Piece(piece.ink[:, column:], piece.left + column, piece.top)
    if min(_tallest(before), _tallest(behind)) < SHORT * height:  # a 5's bar and its foot, which both end up behind
        return [piece]
    return [part for side in (before, behind) for part in _cut(_trimmed(side), height, pen)]


def _tallest(piece: Piece) -> int:
    labels, _ = ndimage.label(piece.ink, np.ones((3, 3)))
    return max(rows.stop - rows.start for rows, _ in ndimage.find_objects(labels))


def _bridge(ink: NDArray[np.bool_], height: int, pen: float) -> int | None:
    # One stroke crosses the column, and on both sides of it is something as tall as a digit: a 0 is crossed twice,
    # and the tail of a 2 is not tall.
    thickness = ink.sum(axis=0)
    strokes = (np.diff(ink, axis=0, prepend=False) & ink).sum(axis=0)
    tall = SHORT * height
    columns = np.arange(ink.shape[1])
    inner = (columns >= NARROWEST * height) & (columns < ink.shape[1] - NARROWEST * height)
    both = (_reach(ink) >= tall) & (_reach(ink[:, ::-1])[::-1] >= tall)
    bridges = np.flatnonzero((strokes <= 1) & (thickness <= BRIDGE * pen) & inner & both)
    if len(bridges) == 0:
        return None
    return int(bridges[np.lexsort((np.abs(bridges - ink.shape[1] / 2), thickness[bridges]))[0]])


def _reach(ink: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The height of what lies left of each column, the column included."""
    inked = ink.any(axis=0)
    top = np.where(inked, ink.argmax(axis=0), len(ink))
    bottom = np.where(inked, len(ink) - ink[::-1].argmax(axis=0), 0)
    return np.maximum.accumulate(bottom) - np.minimum.accumulate(top)


def _trimmed(piece: Piece) -> Piece:
    rows, columns = bounds(piece.ink)
    return Piece(piece.ink[rows, columns], piece.left + columns.start, piece.top + rows.start)
