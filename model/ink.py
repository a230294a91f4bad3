"""Tells ink from what it is drawn on.

    levels [h, w] uint8, ink high, the longer side 140 to 280 pixels where the picture has as many

Ink is what differs from the border, in brightness, colour or opacity: any pen on any paper will do.
"""

from functools import reduce

import numpy as np
from PIL import Image
from scipy import ndimage  # type: ignore[import-untyped]

from model.paper import Levels, border_of, ink_on_paper
from model.sheet import Mask, sheets_in

SIDE = 140  # px; averaged to it, specks and grain fade while strokes stay
SMALLEST_PHOTOGRAPH = 56  # px
NESTED = 2  # a sheet on a table, in a screenshot with bars
BLEND = 2  # px along a sheet's edge are partly what is around it
CLEAR = 60  # levels of ink, at most, in as many pixels further in
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


def _distance_from_paper(levels: Levels, *, nested: int = NESTED) -> Levels:
    height, width = levels.shape[:2]
    bands = levels.reshape(height, width, -1)
    borders = [_border(bands[..., band]) for band in range(bands.shape[2])]
    distance = _distance(bands, np.array([_middle(border) for border in borders], np.uint8))
    if min(height, width) < SMALLEST_PHOTOGRAPH:
        return distance
    is_even = max(map(_spread, borders)) <= EVEN_SPREAD
    for sheet in sheets_in(distance, EVEN_SPREAD, is_even=is_even) if nested else ():
        if (ink := _ink_on(sheet, bands, nested - 1)) is not None:
            return ink
    return distance if is_even else ink_on_paper(bands, distance)


def _ink_on(sheet: Mask, bands: Levels, nested: int) -> Levels | None:
    """Ink [h, w]; None where there is none, or some along the sheet's edge, which is a shadow's or a blot's then."""
    around = ndimage.binary_dilation(~sheet, iterations=BLEND)
    # What is around goes on as the sheet ends, so that nothing stands out there.
    nearest = ndimage.distance_transform_edt(around, return_distances=False, return_indices=True)
    ink = _distance_from_paper(bands[tuple(nearest)], nested=nested)
    is_clear = ink[ndimage.binary_dilation(around, iterations=BLEND)].max() <= CLEAR
    ink[around] = 0
    return ink if is_clear and ink.max() > EVEN_SPREAD else None


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
