"""Digits as other people write them: a slash through a 0, a flag and a foot on a 1, a bar through a 7.

Shapes: B images in a batch, S = 4 kinds of strokes. Rows run down, columns to the right, both in pixels.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from model.spec_layers import IMAGE_SIDE

_PIXELS = np.arange(IMAGE_SIDE, dtype=np.float32)
_FOOTED = 0.5  # share of the flagged 1s


class _Draws(NamedTuple):
    """What chance gives each image: [B] float32 in 0..1."""

    rank: Array  # only the lowest are written another way
    length: Array
    slope: Array
    place: Array
    foot: Array


class _Ink(NamedTuple):
    """The box around an image's ink, and how wide its strokes are: [B] float32."""

    top: Array
    bottom: Array
    left: Array
    right: Array
    stroke_width: Array


class _Segment(NamedTuple):
    """A straight stroke: its middle, and the way from there to one end; [B] float32 each."""

    row: Array
    column: Array
    down: Array
    right: Array


def write_variants(images: Array, labels: Array, key: Array, *, share: float) -> Array:
    """Gives this share of the 0s, 1s and 7s the strokes that some people write; the other images keep their bits.

    images: [B, 28, 28] float32 in 0..1, ink high; labels: [B]; the key is consumed. Returns [B, 28, 28] in 0..1.
    """
    draws = _Draws(*jax.random.uniform(key, (len(images), len(_Draws._fields)), jnp.float32).T)
    pixels = jnp.rint(images * 255)  # whole numbers add up to the same in any order, which a batch's size decides
    ink = _measure(pixels)
    zero, one, seven = ((draws.rank < share) & (labels == digit) for digit in (0, 1, 7))
    segments = (_slash(ink, draws), _flag(pixels, ink, draws), _foot(pixels, ink, draws), _bar(pixels, ink, draws))
    wanted = jnp.stack([zero, one, one & (draws.foot < _FOOTED), seven])  # [S, B]

    def write(images: Array, stroke: tuple[_Segment, Array]) -> tuple[Array, None]:
        segment, wanted = stroke
        return jnp.maximum(images, _drawn(segment, ink.stroke_width) * wanted[:, None, None]), None

    # What a scan gives lies in memory. XLA would draw anew for each of the four pixels that a resampling looks at: with
    # a loop in Python and an optimization barrier instead, a step of `quick` takes 2.3 times as long on a CPU.
    return lax.scan(write, images, (jax.tree.map(lambda *of_kinds: jnp.stack(of_kinds), *segments), wanted))[0]


def _measure(pixels: Array) -> _Ink:
    """A stroke of length L and width W has L·W of ink and an outline of 2·L, which is the ink's total variation.

    Measured along both axes, that comes out 4/π times too long in the mean over directions.
    """
    inked = pixels > 127
    outline = sum(jnp.sum(jnp.abs(jnp.diff(pixels, axis=axis)), axis=(1, 2)) for axis in (1, 2)) * (math.pi / 4)
    stroke_width = 2 * jnp.sum(pixels, axis=(1, 2)) / jnp.maximum(outline, 1.0)
    return _Ink(*_ends(jnp.any(inked, axis=2)), *_ends(jnp.any(inked, axis=1)), stroke_width)


def _ends(inked: Array) -> tuple[Array, Array]:
    """The first and the last place with ink; inked: [B, 28] bool."""
    first, empty_after = jnp.argmax(inked, axis=1), jnp.argmax(inked[:, ::-1], axis=1)
    return first.astype(jnp.float32), (IMAGE_SIDE - 1 - empty_after).astype(jnp.float32)


def _column_at(pixels: Array, row: Array) -> Array:
    """The mean column of the ink about this row; the image's middle where there is none."""
    nearness = jnp.maximum(2.0 - jnp.abs(_PIXELS[None, :] - jnp.rint(row)[:, None]), 0.0)  # [B, 28]
    near = nearness[:, :, None] * pixels
    ink = jnp.sum(near, axis=(1, 2))
    return jnp.where(ink > 0, jnp.sum(near * _PIXELS[None, None, :], axis=(1, 2)) / ink, (IMAGE_SIDE - 1) / 2)


def _slash(ink: _Ink, draws: _Draws) -> _Segment:
    """From lower left to upper right through the middle, now and then beyond the ink."""
    half_height, half_width = (ink.bottom - ink.top) / 2, (ink.right - ink.left) / 2
    reach = 0.5 + 0.6 * draws.length  # an oval's own is 0.7, at a slope of 1
    right = reach * half_width * (0.6 + 0.6 * draws.slope)
    return _Segment(ink.top + half_height, ink.left + half_width, -reach * half_height, right)


def _flag(pixels: Array, ink: _Ink, draws: _Draws) -> _Segment:
    """From the top end to the left, level or down."""
    row = ink.top + ink.stroke_width / 2
    half, angle = 1.0 + 2.0 * draws.length, math.radians(60) * draws.slope
    down, left = half * jnp.sin(angle), half * jnp.cos(angle)
    return _Segment(row + down, _column_at(pixels, row) - left, down, -left)


def _foot(pixels: Array, ink: _Ink, draws: _Draws) -> _Segment:
    row = ink.bottom - ink.stroke_width / 2
    return _Segment(row, _column_at(pixels, row), jnp.zeros_like(row), 2.0 + 3.0 * draws.place)


def _bar(pixels: Array, ink: _Ink, draws: _Draws) -> _Segment:
    """Across the stem, rising to the right more often than falling."""
    row = ink.top + (0.4 + 0.25 * draws.place) * (ink.bottom - ink.top)
    half = 2.5 + 2.5 * draws.length
    return _Segment(row, _column_at(pixels, row), half * (0.1 - 0.5 * draws.slope), half)


def _drawn(segment: _Segment, width: Array) -> Array:
    """[B, 28, 28] in 0..1: ink up to half the width from the segment, and an edge of one pixel."""
    row, column, down, right = (value[:, None, None] for value in segment)
    below, beside = _PIXELS[None, :, None] - row, _PIXELS[None, None, :] - column  # of the middle
    along = jnp.clip((below * down + beside * right) / (down**2 + right**2 + 1e-6), -1.0, 1.0)  # 1 at the end
    distance = jnp.sqrt((below - along * down) ** 2 + (beside - along * right) ** 2)
    return jnp.clip((width[:, None, None] + 1) / 2 - distance, 0.0, 1.0)
