"""Tells ink from what it is drawn on.

    levels [h, w] uint8, ink high, the longer side 140 to 280 pixels where the picture has as many

Ink is what differs from the border, in brightness, colour or opacity: any pen on any paper will do.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = NDArray[np.uint8]

SIDE = 140  # px; averaged to it, specks and grain fade while strokes stay


def ink_of(image: Image.Image, *, side: int = SIDE) -> Levels:
    """Ink in a picture of mode L, RGB or RGBA: [h, w] uint8, 0 for paper; h or w is at least `side` if it was before."""
    if image.mode != "RGBA":
        return _distance_from_paper(_coarse(image, side))
    if int(np.asarray(image).view("<u4").min()) >= OPAQUE:
        return _distance_from_paper(_coarse(image.convert("RGB"), side))
    opacity = _coarse(image.getchannel("A"), side)
    if _paper(opacity) < 128:
        return _distance_from_paper(opacity)
    distance = _distance_from_paper(_coarse(image.convert("RGB"), side))
    return (distance.astype(np.uint16) * opacity // 255).astype(np.uint8)


OPAQUE = 0xFF000000  # a pixel's four bytes as one number


def _coarse(image: Image.Image, side: int) -> Levels:
    factor = max(image.size) // side
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def _distance_from_paper(levels: Levels) -> Levels:
    if levels.ndim == 2:
        return _distance(levels, _paper(levels))
    height, width, bands = levels.shape
    paper = np.array([_paper(levels[..., band]) for band in range(bands)], np.uint8)
    # Rows of bands side by side: NumPy is eight times slower over an innermost axis of three.
    distances = _distance(levels.reshape(height, -1), np.tile(paper, width)).reshape(levels.shape)
    return np.maximum(np.maximum(distances[..., 0], distances[..., 1]), distances[..., 2])


def _distance(levels: Levels, paper: np.uint8 | Levels) -> Levels:
    return np.maximum(levels, paper) - np.minimum(levels, paper)


def _paper(levels: Levels) -> np.uint8:
    border = np.concatenate([levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1]])
    border.sort()
    middle = len(border) // 2
    return np.uint8((int(border[middle]) + int(border[~middle])) // 2)
