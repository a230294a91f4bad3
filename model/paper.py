"""Ink on paper that was photographed or scanned: uneven light, ruled lines, dust and the table beside it go.

levels [h, w] uint8, ink high
bands  [h, w, 1 or 3] uint8, as decoded
"""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

Levels = NDArray[np.uint8]
Plane = NDArray[np.float32]  # [h, w]

BARE = 0.1  # of a canvas, at least, has the very level of its border's middle
EXACT = 0.8  # of its pixels that are nearly of that level have it; the grain of a photograph leaves 0.6
FLAT = 3  # levels within which half of an evenly lit page's pixels lie
FEWEST_LINES = 3  # a 2 that fills the picture has two straight bars
EVEN = 16  # levels that the light on even paper spreads over
WIDEST_STROKE = 0.25  # of the longer side: whatever is wider is light or shadow
MARGIN = 0.03  # of the longer side, along the border: what reaches into it is no stroke beside a larger one
DARKEST_PAPER = 16  # below it a quotient is noise
LEAST = 600  # levels of ink in a stroke: 20 px of the faintest
SPECK = 0.05  # of the ink in the largest component
FAINTEST_STROKE = 30  # levels darker than even paper: a hard pencil's
SHARP = 0.5  # of a stroke's ink, at least, lies between pixels 4 apart somewhere on its outline
EDGE = 0.15  # of the longer side, along the border: what touches more of it is the paper's edge, no stroke


def ink_on_paper(bands: Levels, distance: Levels) -> Levels:
    """Ink [h, w] in a picture whose border is uneven; `distance` itself where that is a drawing, not its paper.

    bands: [h, w, 1 or 3]. distance: [h, w], from the border's middle level.
    """
    bare = np.count_nonzero(distance == 0)
    if bare >= max(BARE * distance.size, EXACT * np.count_nonzero(distance <= 2 * FLAT)):
        return distance
    planes = [bands[..., band].astype(np.float32) for band in range(bands.shape[2])]
    chalk = sum(_standing_out(plane) for plane in planes) > 0
    lights = [_board(plane) if chalk else _page(plane) for plane in planes]
    if np.median(distance) <= FLAT and all(light.is_even for light in lights):
        return _evenly_lit(distance)
    return _strokes(_without_lines(reduce(np.maximum, (light.ink for light in lights))))


def _evenly_lit(distance: Levels) -> Levels:
    ink = distance.astype(np.float32)
    without_lines = _without_lines(ink)
    return distance if np.array_equal(without_lines, ink) else _strokes(without_lines)


class Light(NamedTuple):
    ink: Plane  # 0 to 255, as if the light were even
    is_even: bool


def _standing_out(plane: Plane) -> float:
    # Strokes are the lesser part of any neighbourhood, so they stand out farther from it: above 0, they are bright.
    strokes = plane - ndimage.gaussian_filter(plane, max(plane.shape) / 20)
    height, width = plane.shape
    inside = strokes[height // 8 : height - height // 8, width // 8 : width - width // 8]
    return float((inside**3).sum())


def _page(plane: Plane) -> Light:
    # Ink absorbs the same share of the light everywhere; chalk on a board adds to it.
    paper = _paper(plane)
    ink = 255 * (1 - plane / np.maximum(paper, DARKEST_PAPER))
    return Light(_above_paper(ink.astype(np.float32)), _spread(paper) <= EVEN)


def _board(plane: Plane) -> Light:
    board = 255 - _paper(255 - plane)
    return Light(_above_paper(plane - board), _spread(board) <= EVEN)


def _paper(band: Plane) -> Plane:
    # A closing: dark strokes vanish, the edges of shadows stay where they are. Beyond the border the light
    # goes on as it came, or a page that darkens towards its corners would have ink there.
    side = round(WIDEST_STROKE * max(band.shape)) | 1
    around = min(side, min(band.shape) - 1)
    page = np.pad(ndimage.median_filter(band, 3), around, mode="reflect", reflect_type="odd")
    for widest in (ndimage.maximum_filter1d, ndimage.minimum_filter1d):
        for axis in (0, 1):
            page = widest(page, side, axis=axis)
    return page[around:-around, around:-around]


def _spread(plane: Plane) -> float:
    low, high = np.quantile(plane, [0.02, 0.98])
    return float(high - low)


def _above_paper(ink: Plane) -> Plane:
    return np.clip(ink - np.median(ink), 0, 255)


STEEPEST = 0.06  # rise of a ruled line over its length
FAINTEST_LINE = 10  # levels
WIDEST_LINE = 0.04  # of the page's height
UNINKED = 0.3  # of a ruled line's length, at most, may be paler than the line


def _without_lines(ink: Plane) -> Plane:
    """Without ruled lines, which cross the whole page."""
    return _without_rows(_without_rows(ink).T).T


def _without_rows(ink: Plane) -> Plane:
    height, width = ink.shape
    rises = np.arange(-round(STEEPEST * width), round(STEEPEST * width) + 1, 2)
    slanted = [_slanted(ink, rise) for rise in rises]
    profiles = [_profile(page) for page in slanted]
    best = int(np.argmax([(profile**2).sum() for profile in profiles]))
    page, profile = slanted[best], profiles[best]
    lines = _lines(profile)
    if len(lines) < FEWEST_LINES:
        return ink
    for first, last in lines:
        beside = np.minimum(page[max(first - 1, 0)], page[min(last + 1, height - 1)])
        line = page[first : last + 1]  # a view
        line_alone = line <= 1.5 * profile[first : last + 1].max() + FAINTEST_LINE
        line[line_alone] = np.broadcast_to(np.minimum(beside, line), line.shape)[line_alone]
    return _slanted(page, -int(rises[best]))


def _slanted(page: Plane, rise: int) -> Plane:
    height, width = page.shape
    shifts = np.rint(np.linspace(-rise / 2, rise / 2, width)).astype(int)
    rows = np.clip(np.arange(height)[:, None] + shifts, 0, height - 1)
    return np.take_along_axis(page, rows, axis=0)


def _profile(page: Plane) -> Plane:
    # Over three rows: a line thinner than a pixel wanders between two.
    faintest = int(UNINKED * page.shape[1])
    profile = np.partition(ndimage.maximum_filter1d(page, 3, axis=0), faintest, axis=1)[:, faintest]
    return np.maximum(profile - ndimage.median_filter(profile, max(5, len(profile) // 8)), 0)


def _lines(profile: Plane) -> list[tuple[int, int]]:
    """First and last row of each line."""
    labels, _ = ndimage.label(profile > FAINTEST_LINE)
    bounds = [(rows[0].start, rows[0].stop - 1) for rows in ndimage.find_objects(labels)]
    return [(first, last) for first, last in bounds if last - first - 2 < max(WIDEST_LINE * len(profile), 3)]


def _strokes(ink: Plane) -> Levels:
    """The components that are strokes; what is left of the paper is 0."""
    labels, count = ndimage.label(ink >= _threshold(ink), np.ones((3, 3)))
    amounts = np.bincount(labels.ravel(), ink.ravel(), count + 1).astype(np.float64)
    amounts[0] = 0
    amounts[_along_the_border(labels, amounts) | _blurred(ink, labels, count)] = 0
    kept = amounts >= max(SPECK * amounts.max(), LEAST)
    around = ndimage.binary_dilation(kept[labels], np.ones((3, 3)))  # pale edges of strokes
    return np.where(around, ink, 0).astype(np.uint8)


def _threshold(ink: Plane) -> float:
    grain = 1.4826 * float(np.median(np.abs(ink - np.median(ink))))
    inked = ink[ink > max(5 * grain, FAINTEST_LINE)]
    if len(inked) == 0:
        return 256
    peak = float(np.quantile(inked, 0.9))
    return max(0.45 * peak, 5 * grain, FAINTEST_STROKE)


def _along_the_border(labels: NDArray[np.int32], amounts: NDArray[np.float64]) -> NDArray[np.bool_]:
    edge = np.bincount(border_of(labels), minlength=len(amounts)) > EDGE * max(labels.shape)
    margin = round(MARGIN * max(labels.shape))
    inside = labels[margin:-margin, margin:-margin]
    areas, areas_inside = (np.bincount(part.ravel(), minlength=len(amounts)) for part in (labels, inside))
    in_margin = areas_inside < areas
    largest_inside = amounts[~in_margin].max(initial=0)
    return np.asarray(edge | (areas_inside == 0) | (in_margin & (amounts < max(largest_inside / 2, 5 * LEAST))))


def otsu_threshold(levels: Levels) -> int:
    """The least level of what is bright.

    Otsu, A Threshold Selection Method from Gray-Level Histograms (1979), eq. 18.
    """
    counts = np.bincount(levels[levels > 0], minlength=256).astype(np.float64)
    counts[0] = levels.size - counts.sum()
    dark, shade = counts.cumsum(), (counts * _LEVELS).cumsum()
    apart = (shade[-1] * dark - dark[-1] * shade) ** 2
    return int((apart / np.maximum(dark * (dark[-1] - dark), 1)).argmax()) + 1


_LEVELS = np.arange(256)


def border_of(plane: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of a plane [h, w], each once."""
    return np.concatenate([plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]])


def _blurred(ink: Plane, labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    # What rises slowly is light that the paper was not cleared of.
    rise = ndimage.maximum_filter(ink, 5) - ndimage.minimum_filter(ink, 5)
    components = np.arange(count + 1)
    steepest, peak = (ndimage.maximum(plane, labels, components) for plane in (rise, ink))
    return np.asarray(steepest < SHARP * peak)
