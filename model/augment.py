"""Varies training images at random: written another way, moved, bent, drawn with another pen, and noisy.

Shapes: B images in a batch; K knots along each axis of a coarse grid. Rows run down, columns to the right.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array, lax
from jax.scipy.ndimage import map_coordinates

from model.handwriting import write_variants
from model.spec_augmentation import Augmentation
from model.spec_layers import IMAGE_SIDE

_CENTRE = (IMAGE_SIDE - 1) / 2  # of the image, in pixels from the centre of the first
_PIXELS = np.arange(IMAGE_SIDE, dtype=np.float32)


class _Draws(NamedTuple):
    """What each image gets of every change, as a share of the most it may get: [B, 1, 1] float32 in -1..1."""

    down: Array
    right: Array
    rotation: Array
    scale: Array
    shear: Array
    thickness: Array
    rank: Array  # only the lowest are changed at all


def augment(images: Array, labels: Array, key: Array, *, augmentation: Augmentation) -> Array:
    """A random variation of each image; what one becomes depends on the key and its place in the batch alone.

    images: [B, 28, 28] float32 in 0..1, ink high; labels: [B] uint8, which variants follow; the key is consumed.
    Returns [B, 28, 28] float32 in 0..1. Written another way; then scaled, leant, turned and shifted in this order and
    bent, all by one resampling; then thickened, then noisy.
    """
    draws_key, elastic_key, noise_key, variants_key = jax.random.split(key, 4)
    draws = _draw(draws_key, len(images))
    changed = images
    if augmentation.variants:
        changed = write_variants(images, labels, variants_key, share=augmentation.variants)
    changed = _move(changed, draws, elastic_key, augmentation)
    if augmentation.thickness:
        changed = _thicken(changed, augmentation.thickness * draws.thickness)
    if augmentation.noise:
        noise = jax.random.normal(noise_key, (len(images), IMAGE_SIDE**2), jnp.float32)
        changed += augmentation.noise * noise.reshape(images.shape)
    changed = jnp.clip(changed, 0.0, 1.0)
    if augmentation.probability < 1:
        return jnp.where(draws.rank < 2 * augmentation.probability - 1, changed, images)
    return changed


def _draw(key: Array, batch_size: int) -> _Draws:
    """B leads in this draw and in all others: threefry then gives an image the same in a batch of any size."""
    draws = jax.random.uniform(key, (batch_size, len(_Draws._fields)), jnp.float32, minval=-1.0, maxval=1.0)
    return _Draws(*draws.T[:, :, None, None])


def _move(images: Array, draws: _Draws, elastic_key: Array, augmentation: Augmentation) -> Array:
    """One resampling for all that moves points, since each would blur the image again."""
    if not any(getattr(augmentation, name) for name in ("shift", "rotation", "scale", "shear", "elastic")):
        return images
    rows, columns = _affine_sources(draws, augmentation)
    if augmentation.elastic:
        displacements = _elastic_displacements(elastic_key, len(images), augmentation)
        rows, columns = rows + displacements[:, 0], columns + displacements[:, 1]
    return _resample(images, rows, columns)


def _affine_sources(draws: _Draws, augmentation: Augmentation) -> tuple[Array, Array]:
    """The row and the column that each pixel comes from: 2 × [B, 28, 28] float32.

    Changes are about the image's centre and undone here last to first. Positive ones shift down and to the right,
    turn clockwise, lean to the right as italics do, and grow: one factor for both axes, for a digit keeps its shape.
    """
    angle = math.radians(augmentation.rotation) * draws.rotation
    lean = jnp.tan(math.radians(augmentation.shear) * draws.shear)
    size = 1 + augmentation.scale * draws.scale
    below = _PIXELS[None, :, None] - _CENTRE - augmentation.shift * draws.down  # [B, 28, 1]
    beside = _PIXELS[None, None, :] - _CENTRE - augmentation.shift * draws.right  # [B, 1, 28]
    upright_below = jnp.cos(angle) * below - jnp.sin(angle) * beside  # [B, 28, 28]
    upright_beside = jnp.sin(angle) * below + jnp.cos(angle) * beside
    return upright_below / size + _CENTRE, (upright_beside + lean * upright_below) / size + _CENTRE


def _elastic_displacements(key: Array, batch_size: int, augmentation: Augmentation) -> Array:
    """Rows and columns to move by: [B, 2, 28, 28] float32, in pixels (Simard et al. 2003, section 2).

    The paper's uniform noise, smoothed by a Gaussian. Normalised in expectation: an image may be bent more or less.
    """
    smoothing = _smoothing(augmentation.elastic_sigma)  # [28, K]
    knots = smoothing.shape[1]
    noise = jax.random.uniform(key, (batch_size, 2 * knots**2), jnp.float32, minval=-1.0, maxval=1.0)
    noise = noise.reshape(-1, 2, knots, knots)  # the same bits as if drawn so, for a tenth of XLA's compile time
    smooth = jnp.einsum("ik,bdkl,jl->bdij", smoothing, noise, smoothing, precision=lax.Precision.HIGHEST)
    return augmentation.elastic * math.sqrt(3 / 2) * smooth  # the noise has variance 1/3; two axes share the square


def _smoothing(sigma: float) -> npt.NDArray[np.float32]:
    """[28, K]: each row a Gaussian about its pixel, its squares summing to 1, so that variance is kept everywhere.

    The noise is drawn on knots one sigma apart, not on pixels: the covariance after smoothing, exp(-d² / 4 sigma²),
    is the same to 2 exp(-pi²) = 1e-4 (Poisson's summation formula). They reach 2 sigma beyond the image, where
    the last squares are small: a field without an edge.
    """
    knots = math.ceil((IMAGE_SIDE - 1) / sigma) + 5
    places = _CENTRE + sigma * (np.arange(knots) - (knots - 1) / 2)
    weights = np.exp(-(((_PIXELS[:, None] - places[None, :]) / sigma) ** 2) / 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _resample(images: Array, rows: Array, columns: Array) -> Array:
    """The images' values at these points, bilinear, no ink outside: [B, 28, 28] float32 each."""

    def resample_one(image: Array, rows: Array, columns: Array) -> Array:
        return map_coordinates(image, [rows, columns], order=1, mode="constant", cval=0.0)

    return jax.vmap(resample_one)(images, rows, columns)


def _thicken(images: Array, thickness: Array) -> Array:
    """Blended with the grey dilation where thickness is above 0, with the erosion where it is below.

    thickness: [B, 1, 1] in -1..1. The neighbourhood is a pixel and the four beside it, as far as the image goes.
    Window reductions are not fused with what comes before: as maxima of slices, XLA resamples anew for each on a CPU.
    """
    signed = jnp.sign(thickness) * images  # the least of all is the greatest of the negated
    upright, level = (
        lax.reduce_window(signed, -math.inf, lax.max, window, (1, 1, 1), "SAME") for window in ((1, 3, 1), (1, 1, 3))
    )
    return images + thickness * (jnp.maximum(upright, level) - signed)
