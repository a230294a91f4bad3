"""Finds the sheet of paper within a picture: on a table, between bars, in a frame.

distance [h, w] uint8: how much each pixel differs from the picture's border
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from model.paper import Levels, otsu_threshold

LARGE = 0.15  # of the picture, at least: strokes mostly cover less
FILLED = 0.85  # of a sheet, at least, differs from what is around it: all but the ink
STRAIGHT = 0.9  # of the rectangle around it, at least, is the sheet's; a camera is held askew, a 0 is round
EDGE = 3  # px
STEP = 16  # levels by which the pixels along its edge, at least, differ from those beside them
ANGLES = np.deg2rad(np.arange(0, 90, 2))

Mask = NDArray[np.bool_]  # [h, w]


def sheets_in(distance: Levels, faintest: int, *, is_even: bool) -> Iterator[Mask]:
    """Where a sheet may lie, its ink included.

    faintest: the distance above which a pixel is not what is around the sheet, where that is_even.
    """
    for least in (faintest + 1,) if is_even else (faintest + 1, otsu_threshold(distance)):
        filled = distance >= least
        # Every fourth pixel tells drawings, which mostly are no sheet, in a tenth of the time.
        if _is_large_and_full(filled[::4, ::4], is_even):
            sheet = _between_ends(filled if is_even else _largest(filled))
            if not sheet.all() and _is_rectangle(sheet) and _stands_out(sheet, distance):
                yield sheet


def _is_large_and_full(filled: Mask, is_even: bool) -> bool:
    """Whether it has no gaps but the ink's: a stroke's bends leave wide ones."""
    if np.count_nonzero(filled) < LARGE * filled.size:
        return False
    whole = filled if is_even else _largest(filled)
    area = np.count_nonzero(whole)
    return bool(area >= LARGE * whole.size and area >= FILLED * max(_spanned(whole), _spanned(whole.T)))


def _largest(filled: Mask) -> Mask:
    """Its largest component."""
    labels, _ = ndimage.label(filled)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.asarray(labels == areas.argmax())


def _ends(filled: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Each row that holds any, its first pixel and its last: the corners of what is convex are among them."""
    rows = np.flatnonzero(filled.any(axis=1))
    return rows, filled[rows].argmax(axis=1), filled.shape[1] - 1 - filled[rows, ::-1].argmax(axis=1)


def _spanned(filled: Mask) -> int:
    """Pixels from the first to the last of each row; of what is convex, its area."""
    rows, first, last = _ends(filled)
    return int((last - first).sum()) + len(rows)


def _between_ends(filled: Mask) -> Mask:
    """With what lies between its ends along rows and along columns."""
    return _filled_rows(filled) & _filled_rows(filled.T).T


def _filled_rows(filled: Mask) -> Mask:
    rows, first, last = _ends(filled)
    columns = np.arange(filled.shape[1])
    whole = np.zeros_like(filled)
    whole[rows] = (first[:, None] <= columns) & (columns <= last[:, None])
    return whole


def _is_rectangle(sheet: Mask) -> bool:
    """Whether it fills the least rectangle around it, in any position, as far as that lies in the picture."""
    rows, first, last = _ends(sheet)
    across, down = _turned(np.concatenate([first, last]), np.tile(rows, 2), ANGLES[:, None])
    angle = (np.ptp(across, axis=1) * np.ptp(down, axis=1)).argmin()
    y, x = np.indices(sheet.shape)
    places = _turned(x, y, ANGLES[angle])
    inside = _within(places[0], across[angle]) & _within(places[1], down[angle])
    return bool(np.count_nonzero(sheet) >= STRAIGHT * np.count_nonzero(inside))


def _turned(x: Any, y: Any, angle: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _stands_out(sheet: Mask, distance: Levels) -> bool:
    """Whether it ends at once, as no gradient of light does."""
    inside = ndimage.binary_dilation(~sheet, iterations=EDGE) & sheet
    outside = ndimage.binary_dilation(sheet, iterations=EDGE) & ~sheet
    return bool(np.median(distance[inside]) - np.median(distance[outside]) >= STEP)


def _within(places: NDArray[np.float64], points: NDArray[np.float64]) -> Mask:
    return (points.min() <= places) & (places <= points.max())
