"""Tells ink from what it is drawn on.

    levels [h, w] uint8, ink high, the longer side 140 to 280 pixels where the picture has as many

Ink is what differs from the border, in brightness, colour or opacity: any pen on any paper will do.
"""

from functools import reduce

import numpy as np
from PIL import Image

from model.paper import Levels, border_of, ink_on_paper

SIDE = 140  # px; averaged to it, specks and grain fade while strokes stay
SMALLEST_PHOTOGRAPH = 56  # px
FRAMED = 0.15  # of all pixels, at least, lie within a frame; strokes cover fewer
BLEND = 2  # px
FILLED = 0.85  # of a framed picture's pixels, at least, differ from the frame: of paper, all but the ink
STRAIGHT = 0.99  # of its outermost pixels: strokes have round ends
EVEN_SPREAD = 16  # levels that the border of a canvas may spread over; the grain of a photograph spreads more


def ink_of(image: Image.Image, *, side: int = SIDE) -> Levels:
    """Ink in a picture of mode L, RGB or RGBA: [h, w] uint8, 0 for paper.

    The longer side has `side` to 2 * `side` pixels, or fewer where the picture has.
    """
    if image.mode != "RGBA":
        return _distance_from_paper(_coarse(image, side))
    if int(np.asarray(image).view("<u4").min()) >= OPAQUE:
        return _distance_from_paper(_coarse(image.convert("RGB"), side))
    opacity = _coarse(image.getchannel("A"), side)
    if _middle(_border(opacity)) < 128:
        return _distance_from_paper(opacity)
    distance = _distance_from_paper(_coarse(image.convert("RGB"), side))
    return (distance.astype(np.uint16) * opacity // 255).astype(np.uint8)


OPAQUE = 0xFF000000  # a pixel's four bytes as one number


def _coarse(image: Image.Image, side: int) -> Levels:
    factor = max(image.size) // side
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def _distance_from_paper(levels: Levels) -> Levels:
    height, width = levels.shape[:2]
    bands = levels.reshape(height, width, -1)
    borders = [_border(bands[..., band]) for band in range(bands.shape[2])]
    distance = _distance(bands, np.array([_middle(border) for border in borders], np.uint8))
    if min(height, width) < SMALLEST_PHOTOGRAPH:
        return distance
    if (framed := _framed(bands, distance)) is not None:
        return framed
    return distance if max(map(_spread, borders)) <= EVEN_SPREAD else ink_on_paper(bands, distance)


def _framed(bands: Levels, distance: Levels) -> Levels | None:
    """Ink [h, w] in a picture that has a frame, or bars as a telephone's screenshot; None where nothing is framed.

    What is framed fills a rectangle and has ink of its own: no digit does the one, and no stroke has the other.
    """
    filled = distance > EVEN_SPREAD
    if np.count_nonzero(filled) < FRAMED * filled.size:  # as nearly every drawing, at a tenth of what the rest costs
        return None
    rows, columns = (np.flatnonzero(filled.any(axis=axis)) for axis in (1, 0))
    if (len(rows), len(columns)) == distance.shape:
        return None
    # Without its outermost pixels, which are partly the frame's.
    inside = slice(rows[0] + BLEND, rows[-1] + 1 - BLEND), slice(columns[0] + BLEND, columns[-1] + 1 - BLEND)
    picture = bands[inside]
    if min(picture.shape[:2]) < SMALLEST_PHOTOGRAPH or filled[inside].mean() < FILLED:
        return None
    if border_of(filled[inside]).mean() < STRAIGHT:
        return None
    ink = np.zeros_like(distance)
    ink[inside] = _distance_from_paper(picture)
    return ink if ink.max() > EVEN_SPREAD else None


def _distance(bands: Levels, paper: Levels) -> Levels:
    # Rows of bands side by side: NumPy is eight times slower over an innermost axis of three.
    rows, paper = bands.reshape(len(bands), -1), np.tile(paper, bands.shape[1])
    distances = (np.maximum(rows, paper) - np.minimum(rows, paper)).reshape(bands.shape)
    return reduce(np.maximum, (distances[..., band] for band in range(bands.shape[2])))


def _border(band: Levels) -> Levels:
    """From the least level to the largest."""
    return np.sort(border_of(band))


def _middle(border: Levels) -> int:
    middle = len(border) // 2
    return (int(border[middle]) + int(border[~middle])) // 2


def _spread(border: Levels) -> int:
    # Of all but the outermost half a percent, so that one ruled line that crosses the picture shows.
    outermost = len(border) // 200
    return int(border[~outermost]) - int(border[outermost])
