"""Brings a drawing into the form the network was trained on.

Image bytes or gray levels go in; MNIST's form comes out: [28, 28] uint8, ink high, the digit's longer side
20 pixels and its centre of mass on pixel (14, 14), as LeCun et al. made MNIST (yann.lecun.com/exdb/mnist).
Other bytes than before want a new number of model.checkpoint.PREPARATION.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage  # type: ignore[import-untyped]

from model.decoding import BlankDrawingError, decode, gray_levels
from model.ink import ink_of
from model.paper import Levels, otsu_threshold
from model.spec_layers import DIGIT_CENTRE, DIGIT_SIDE, IMAGE_SIDE

FULL_INK = 255
DUST = 0.3  # of the area that the pen covers where it touches down once
FAINTEST_INK = 24  # a peak below this is the grain of paper or of JPEG
THINNEST_PEN = 0.09  # of the digit's longer side; 19 of 20 MNIST digits are drawn with a thicker one


def from_image(image_bytes: bytes) -> Levels:
    """Brings the drawing in a PNG, JPEG or WebP file into the network's form, [28, 28] uint8, ink high.

    Ink is what differs from the border, in brightness, colour or opacity: any pen on any paper will do.
    A digit that has the form already comes back as it is, byte for byte.
    Raises UnreadableImageError, ImageTooLargeError or BlankDrawingError.
    """
    return network_form(ink_of(decode(image_bytes).image))


def from_pixels(pixels: NDArray[np.generic]) -> Levels:
    """Brings gray levels, [H, W] from 0 to 255, into the network's form, [28, 28] uint8, ink high.

    Raises DrawingError for another shape or range, ImageTooLargeError or BlankDrawingError.
    """
    levels = gray_levels(pixels)
    if has_network_form(levels):  # then more than half of its border is black, and its levels are its ink
        return levels
    return network_form(ink_of(Image.fromarray(levels)))


def network_form(ink: Levels) -> Levels:
    """Brings ink [h, w] uint8 into the network's form. Raises BlankDrawingError."""
    if has_network_form(ink):
        return ink.copy()
    return form_of(_without_dust(cropped(inked(ink))))


def has_network_form(ink: Levels) -> bool:
    """Whether ink [h, w] uint8 is as MNIST's digits are: it is to be passed on as it is."""
    if ink.shape != (IMAGE_SIDE, IMAGE_SIDE) or ink.max() < 250:  # MNIST's peaks are 254 and 255
        return False
    if max(_inked_rows(ink), _inked_rows(ink.T)) > DIGIT_SIDE:
        return False
    total, y, x = _MOMENTS.dot(ink.ravel()).tolist()
    return max(abs(DIGIT_CENTRE - y / total), abs(DIGIT_CENTRE - x / total)) <= 0.6  # 0.52 in MNIST, by whole pixels


# Of a form's pixels: the sum, and those of pixels times rows and columns; all below 2**24, so exact in float32.
_MOMENTS = np.array([np.ones((IMAGE_SIDE, IMAGE_SIDE)), *np.indices((IMAGE_SIDE, IMAGE_SIDE))], np.float32).reshape(
    3, -1
)


def _inked_rows(ink: Levels) -> int:
    """From the first to the last that holds any."""
    # Bytes are looked through in a third of the time that NumPy takes for so few.
    pixels, width = ink.tobytes(), ink.shape[1]
    last, first = len(pixels.rstrip(b"\0")) - 1, len(pixels) - len(pixels.lstrip(b"\0"))
    return last // width - first // width + 1


def inked(ink: Levels) -> Levels:
    """The ink alone, [h, w] uint8: what is fainter than the pen's strokes is 0. Raises BlankDrawingError."""
    faintest = otsu_threshold(ink)
    if ink.max() < FAINTEST_INK:
        raise BlankDrawingError("nothing is drawn: draw a digit that stands out from its background")
    return ink * (ink >= faintest)


def cropped(ink: Levels) -> Levels:
    """The part of `ink` [h, w] that holds all that is not 0."""
    return ink[bounds(ink)]


def bounds(ink: Levels) -> tuple[slice, slice]:
    """The rows and columns of that part."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _without_dust(digit: Levels) -> Levels:
    # Dust that moves the digit leaves a gap in its rows or columns; a drawing of one piece is not looked at again.
    if digit.any(axis=1).all() and digit.any(axis=0).all():
        return digit
    labels, count = ndimage.label(digit, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = areas >= min(DUST * pen_width(digit * (labels == areas.argmax())) ** 2, areas.max())
    return digit if kept[1:].all() else cropped(digit * kept[labels])


def form_of(digit: Levels) -> Levels:
    """Brings one digit's ink [h, w], cropped, into the network's form. Raises BlankDrawingError below 3 pixels."""
    if max(digit.shape) < 3:
        raise BlankDrawingError("a dot is drawn: draw a digit")
    return _centred(_stretched(_scaled(_thickened(digit))))


def _thickened(digit: Levels) -> Levels:
    # A hairline all but vanishes at 20 px, and the network has seen none.
    missing = round(THINNEST_PEN * max(digit.shape) - pen_width(digit))
    return _dilated(digit, missing) if missing > 0 else digit


def pen_width(digit: Levels) -> float:
    """Of strokes [h, w], in pixels: area over half the outline."""
    # An outline followed along the grid is 4/π times too long on average.
    outline = _steps(digit) + _steps(digit.T)
    return float(digit.sum() / (outline / 2) * 4 / math.pi)


def _steps(digit: Levels) -> int:
    above, below = digit[:-1], digit[1:]
    inside = np.maximum(above, below) - np.minimum(above, below)
    return int(inside.sum()) + int(digit[0].sum()) + int(digit[-1].sum())


def _dilated(digit: Levels, pixels: int) -> Levels:
    # Steps that double reach as far as a maximum filter at a fraction of the cost.
    digit = np.pad(digit, (0, pixels))
    reach = 0
    while reach < pixels:
        step = min(reach + 1, pixels - reach)
        digit[:, step:] = np.maximum(digit[:, step:], digit[:, :-step])
        digit[step:] = np.maximum(digit[step:], digit[:-step])
        reach += step
    return digit


def _scaled(digit: Levels) -> Levels:
    height, width = digit.shape
    scale = DIGIT_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(digit)
    if scale > 0.5 and scale != 1:  # too few pixels to average: doubled, they give smoother strokes
        image = image.resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _stretched(digit: Levels) -> Levels:
    peak = digit.max()
    return digit if peak == FULL_INK else np.rint(digit * (FULL_INK / peak)).astype(np.uint8)


def _centred(digit: Levels) -> Levels:
    form = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    height, width = digit.shape
    y, x = (_middle(digit.sum(axis=axis, dtype=np.int64)) for axis in (1, 0))
    top = min(max(round(DIGIT_CENTRE - y), 0), IMAGE_SIDE - height)  # lopsided ink stays whole
    left = min(max(round(DIGIT_CENTRE - x), 0), IMAGE_SIDE - width)
    form[top : top + height, left : left + width] = digit
    return form


def _middle(sums: NDArray[np.int64]) -> float:
    return int(sums @ np.arange(len(sums))) / int(sums.sum())
