"""Convolution of small images through their discrete Fourier transforms, in large products with constant matrices.

A convolution multiplies what two transforms have at each frequency, where a pixel would multiply with every weight of
the window. A frequency is complex, and its conjugate tells nothing new; three real products make a complex one (Gauss:
(a + bi)(c + di) = s - b(c + d) + (s + a(d - c))i with s = c(a + b)). All is bilinear, y = outputsᵀ((pixels x)(taps k)),
so that the gradients are the same products the other way round (Winograd, Arithmetic Complexity of Computations, 1980).

Shapes: B images in a batch, H × W pixels, C channels, F filters, K the side of the kernel, H' = H - K + 1 and W' the
places it has, M products for each image, channel and filter, at most one and a half times H·W.
"""

from functools import cache, partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_dot = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
_LEAST_CHANNELS = 16  # numbers in a processor's vector: by windows, fewer channels take as long


class Spectra(NamedTuple):
    """What the gradients are made of; images: [M, B, C] float32, kernel: [M, C, F] float32."""

    images: Array
    kernel: Array


def is_cheaper(images: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether forward and both gradients multiply less often this way; the shapes: [B, H, W, C], [K, K, C, F].

    So it is for up to about 12 × 12 pixels, where there are filters enough to share the transforms.
    """
    (batch, height, width, channels), (side, _, _, filters) = images, kernel
    pixels, places, pairs = height * width, (height - side + 1) * (width - side + 1), channels * filters
    transforms = pixels * channels + places * filters + side**2 * pairs / batch
    window = side**2 * max(channels, _LEAST_CHANNELS) * filters
    return 1.5 * pixels * (2 * transforms + 3 * pairs) < 3 * places * window


def convolve(x: Array, kernel: Array) -> tuple[Array, Spectra]:
    """x: [B, H, W, C]; kernel: [K, K, C, F]. Returns [B, H', W', F]: only where the kernel lies on the image."""
    height, width, side = *x.shape[1:3], len(kernel)
    bases = _bases(height, width, side)
    spectra = Spectra(_spectrum(x, bases.pixels), _dot("mt,tcf->mcf", bases.taps, _flat(kernel, 0)))
    product = _dot("mbc,mcf->mbf", *spectra)
    return _image(product, bases.outputs, (height - side + 1, width - side + 1)).astype(x.dtype), spectra


def gradients(spectra: Spectra, dy: Array, side: int) -> tuple[Array, Array]:
    """Of x and of the kernel, in dy's dtype; dy: [B, H', W', F]."""
    height, width = (places + side - 1 for places in dy.shape[1:3])
    bases = _bases(height, width, side)
    spectrum = _spectrum(dy, bases.outputs)  # [M, B, F]
    dx = _image(_dot("mbf,mcf->mbc", spectrum, spectra.kernel), bases.pixels, (height, width))
    dkernel = _dot("mt,mcf->tcf", bases.taps, _dot("mbc,mbf->mcf", spectra.images, spectrum))
    return dx.astype(dy.dtype), dkernel.reshape(side, side, *dkernel.shape[1:]).astype(dy.dtype)


def _spectrum(x: Array, basis: np.ndarray) -> Array:
    """[B, H, W, C] -> [M, B, C]; basis: [M, H·W]."""
    return _dot("mp,pbc->mbc", basis, _flat(x, 1).swapaxes(0, 1))


def _image(spectrum: Array, basis: np.ndarray, size: tuple[int, int]) -> Array:
    """[M, B, C] -> [B, H, W, C]; basis: [M, H·W]."""
    pixels = _dot("mp,mbc->pbc", basis, spectrum).swapaxes(0, 1)
    return pixels.reshape(len(pixels), *size, -1)


def _flat(x: Array, axis: int) -> Array:
    """The two axes of an image as one."""
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]).astype(jnp.float32)


class _Bases(NamedTuple):
    """pixels: [M, H·W] float32, taps: [M, K·K] float32, outputs: [M, H'·W'] float32."""

    pixels: np.ndarray
    taps: np.ndarray
    outputs: np.ndarray


@cache
def _bases(height: int, width: int, side: int) -> _Bases:
    """Three products for two conjugate frequencies, and one for each that is its own conjugate, and so real."""
    products: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for v, u in np.ndindex(height, width):
        conjugate = (-v % height, -u % width)
        if conjugate < (v, u):
            continue
        wave = partial(_wave, v / height, u / width)
        x, kernel = wave(height, width), wave(side, side).conj()  # Keras' convolution is a correlation
        y = wave(height - side + 1, width - side + 1) / (height * width)
        if conjugate == (v, u):
            products.append((x.real, kernel.real, y.real))
        else:
            products += [
                (x.real + x.imag, kernel.real, 2 * (y.real + y.imag)),
                (x.real, kernel.imag - kernel.real, 2 * y.imag),
                (x.imag, kernel.real + kernel.imag, -2 * y.real),
            ]
    return _Bases(*(np.array(factors, np.float32) for factors in zip(*products, strict=True)))


def _wave(v: float, u: float, rows: int, columns: int) -> np.ndarray:
    """[rows · columns] complex128; v, u: turns a pixel down, and to the right."""
    return np.exp(-2j * np.pi * np.add.outer(v * np.arange(rows), u * np.arange(columns))).ravel()
