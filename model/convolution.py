"""What moves a window over an image: convolution and pooling, fast on every backend.

Images this small are convolved faster by matrix products, of windows or, where that is less work, of Fourier transforms
(`model.fourier`). On a GPU a step with cuDNN's exact and repeatable convolutions takes up to twice as long. On a CPU
XLA's forward convolution is fast, but its gradients are 10 to 100 times slower than they need be inside a scan
(benchmarks/NOTES.md).

Shapes: B images in a batch, H × W pixels, C channels, F filters, K the side of a window.
"""

import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import Array, lax

from model import fourier
from model.products import dot
from model.spec_layers import Conv2D, LayerShape, Padding

Around = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right

# Images at a time, so that their windows stay in the processor's cache.
_PIECE = 8
# XLA's convolution keeps one core busy; so many at once keep all. Fewer images than this are not worth the pieces.
_PARALLEL_PIECES = 4
_PARALLEL_IMAGES = 64
_MOST_WINDOW_NUMBERS = 2**26  # that a GPU gathers of a layer's batch: 256 MB in float32


def convolve(x: Array, kernel: Array, *, strides: int, padding: Padding) -> Array:
    """x: [B, H, W, C]; kernel: [K, K, C, F]. Returns [B, H', W', F]; no activation, no bias."""
    side, _, channels, filters = kernel.shape
    around = _around(x.shape[1:3], side, strides, padding)
    if _has_all_windows_at_once(side, channels, filters, strides):
        return _by_windows(x, kernel, around, strides)
    padded = jnp.pad(x, ((0, 0), *around, (0, 0)))
    # A weight that sees nothing but zeros around a smaller image has a gradient of exactly zero, which rounding is not.
    if min(x.shape[1:3]) >= side and fourier.is_cheaper(padded.shape, kernel.shape):
        return _by_spectra(padded, kernel, side)
    if jax.default_backend() == "cpu":
        return _convolve(x, kernel, around)
    has_room = math.prod(padded.shape) * side**2 <= _MOST_WINDOW_NUMBERS
    return _by_windows(x, kernel, around, 1) if has_room else _by_xla(x, kernel, around)


def _has_all_windows_at_once(side: int, channels: int, filters: int, strides: int) -> bool:
    """Where a CPU is slow at XLA's, and one channel's take little more memory than what is made of them."""
    return strides > 1 or (channels == 1 and side**2 <= 5 * filters)


def window_numbers(shape: LayerShape) -> int:
    """How many are gathered for an image, if the layer is a convolution that has all its windows at once."""
    layer, channels = shape.layer, shape.input_shape[-1]
    if not isinstance(layer, Conv2D):
        return 0
    if not _has_all_windows_at_once(layer.kernel_size, channels, layer.filters, layer.strides):
        return 0
    return math.prod(shape.output_shape[:2]) * layer.kernel_size**2 * channels


def _by_xla(x: Array, kernel: Array, around: Around) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    precision = lax.Precision.HIGHEST
    return lax.conv_general_dilated(x, kernel, (1, 1), around, dimension_numbers=layout, precision=precision)


def _by_windows(x: Array, kernel: Array, around: Around, strides: int) -> Array:
    """The same, as [B·H'·W', K·K·C] · [K·K·C, F]."""
    seen = _gather(jnp.pad(x, ((0, 0), *around, (0, 0))), len(kernel), strides)
    product = dot(seen.reshape(-1, seen.shape[-1]), kernel.reshape(-1, kernel.shape[-1]))
    return product.reshape(*seen.shape[:3], -1)


def _gather(x: Array, side: int, stride: int) -> Array:
    """[B, H, W, C] -> [B, H', W', K·K·C]: all that each window sees; by columns and then by rows, in longer runs."""
    rows, columns = (range(0, size - side + 1, stride) for size in x.shape[1:3])
    wide = jnp.concatenate([x[:, :, j : j + columns[-1] + 1 : stride] for j in range(side)], axis=-1)
    wide = lax.optimization_barrier(wide)
    return jnp.concatenate([wide[:, i : i + rows[-1] + 1 : stride] for i in range(side)], axis=-1)


def windows(x: Array, side: int, stride: int, padding: Padding) -> list[Array]:
    """K·K arrays [B, H', W', C]: what each pixel of the window sees on its way over the image, zeros around it."""
    around = _around(x.shape[1:3], side, stride, padding)
    x = jnp.pad(x, ((0, 0), *around, (0, 0)))
    rows, columns = ((size - side) // stride + 1 for size in x.shape[1:3])
    return [
        x[:, top : top + (rows - 1) * stride + 1 : stride, left : left + (columns - 1) * stride + 1 : stride]
        for top in range(side)
        for left in range(side)
    ]


def _around(sizes: tuple[int, ...], side: int, stride: int, padding: Padding) -> Around:
    """Pixels added around the image, as TensorFlow's SAME has them: the odd one behind."""
    if padding == "valid":
        return (0, 0), (0, 0)
    rows, columns = (max((math.ceil(size / stride) - 1) * stride + side - size, 0) for size in sizes)
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def _in_parallel(x: Array, kernel: Array, around: Around) -> Array:
    if jax.default_backend() != "cpu" or len(x) < _PARALLEL_IMAGES or len(x) % _PARALLEL_PIECES:
        return _by_xla(x, kernel, around)
    return jnp.concatenate([_by_xla(piece, kernel, around) for piece in jnp.split(x, _PARALLEL_PIECES)])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_spectra(x: Array, kernel: Array, side: int) -> Array:
    """Through Fourier transforms in training; else by XLA, where one image alone is as quick."""
    return _in_parallel(x, kernel, ((0, 0), (0, 0)))


def _by_spectra_forward(x: Array, kernel: Array, side: int) -> tuple[Array, fourier.Spectra]:
    return fourier.convolve(x, kernel)


def _by_spectra_backward(side: int, spectra: fourier.Spectra, dy: Array) -> tuple[Array, Array]:
    return fourier.gradients(spectra, dy, side)


_by_spectra.defvjp(_by_spectra_forward, _by_spectra_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, around: Around) -> Array:
    return _in_parallel(x, kernel, around)


def _convolve_forward(x: Array, kernel: Array, around: Around) -> tuple[Array, tuple[Array, Array]]:
    return _in_parallel(x, kernel, around), (x, kernel)


def _convolve_backward(around: Around, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """Gradients for x and the kernel; dy: [B, H', W', F]."""
    x, kernel = residuals
    dy = lax.optimization_barrier(dy)  # else what made dy is computed again in every window
    dx = _in_parallel(dy, kernel[::-1, ::-1].swapaxes(2, 3), _around_gradient(len(kernel), around))
    return dx, _kernel_gradient(jnp.pad(x, ((0, 0), *around, (0, 0))), dy, kernel.shape)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _around_gradient(side: int, around: Around) -> Around:
    """What dy needs around it, so that a window for each pixel of x sees all that the pixel went into."""
    (top, bottom), (left, right) = around
    return (side - 1 - top, side - 1 - bottom), (side - 1 - left, side - 1 - right)


def _kernel_gradient(x: Array, dy: Array, shape: tuple[int, ...]) -> Array:
    """[K, K, C, F]: the products of dy with the windows of a few images at a time, added up."""
    side, width, filters = shape[0], math.prod(shape[:3]), shape[3]

    def add(total: Array, piece: tuple[Array, Array]) -> tuple[Array, None]:
        seen = jnp.concatenate(windows(piece[0], side, 1, "valid"), axis=-1).reshape(-1, width)
        seen, turned = lax.optimization_barrier((seen, piece[1].reshape(-1, filters).T))
        product = dot(turned, seen, preferred_element_type=jnp.float32)
        return total + product, None

    total, _ = lax.scan(add, jnp.zeros((filters, width), jnp.float32), (_pieces(x), _pieces(dy)))
    return total.T.reshape(shape).astype(x.dtype)


def _pieces(x: Array) -> Array:
    """[B, ...] -> [B / n, n, ...] with the largest n up to _PIECE that divides B."""
    count = next(n for n in range(min(_PIECE, len(x)), 0, -1) if len(x) % n == 0)
    return x.reshape(-1, count, *x.shape[1:])


def max_pool(x: Array, side: int, stride: int, padding: Padding) -> Array:
    """[B, H, W, C] -> [B, H', W', C]; where several pixels are the largest, the first has the gradient."""
    around = rows, columns = _around(x.shape[1:3], side, stride, padding)
    if side == stride and side <= 11 and around == ((0, 0), (0, 0)):
        return _max_of_tiles(x, side)
    # The columns' largest, then the rows': of 2·K slices, where the whole windows' K·K take XLA minutes to compile.
    return _max_along(_max_along(x, 2, side, stride, columns), 1, side, stride, rows)


def _max_along(x: Array, axis: int, side: int, stride: int, around: tuple[int, int]) -> Array:
    """The largest of K neighbours along the axis, at every place of the window there."""
    padded = jnp.pad(x, [around if at == axis else (0, 0) for at in range(x.ndim)], constant_values=-math.inf)
    end = padded.shape[axis] - side + 1
    return reduce(_larger, [lax.slice_in_dim(padded, at, at + end, stride, axis) for at in range(side)])


def _larger(one: Array, other: Array) -> Array:
    """As jnp.maximum, which divides the gradient of equal numbers."""
    return jnp.where((other > one) | jnp.isnan(other), other, one)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_of_tiles(x: Array, side: int) -> Array:
    """The largest number of each window, where windows do not overlap: [B, H, W, C] -> [B, H // K, W // K, C]."""
    return _max_forward(x, side)[0]


def _max_forward(x: Array, side: int) -> tuple[Array, tuple[Array, Array]]:
    """As `_max_of_tiles`, and which pixel of its window is the largest: [B, H', W', C] int8."""
    x = lax.optimization_barrier(x)  # else what made x is computed again in every slice
    first, *others = windows(x, side, side, "valid")
    largest, place = first, jnp.zeros(first.shape, jnp.int8)
    for number, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.int8(number), place)
        largest = jnp.maximum(largest, other)
    largest, place = lax.optimization_barrier((largest, place))
    # The input's shape has to be in an array, as all that is kept for the gradient: one without bytes.
    return largest, (place, jnp.zeros((0, *x.shape[1:3])))


def _max_backward(side: int, residuals: tuple[Array, Array], dy: Array) -> tuple[Array]:
    place, of_shape = residuals
    (batch, rows, columns, channels), (height, width) = place.shape, of_shape.shape[1:]
    dy = lax.optimization_barrier(dy)
    places = jnp.arange(side * side, dtype=jnp.int8).reshape(1, 1, side, 1, side, 1)
    dx = jnp.where(place[:, :, None, :, None] == places, dy[:, :, None, :, None], jnp.zeros((), dy.dtype))
    dx = dx.reshape(batch, rows * side, columns * side, channels)
    return (jnp.pad(dx, ((0, 0), (0, height - rows * side), (0, width - columns * side), (0, 0))),)


_max_of_tiles.defvjp(_max_forward, _max_backward)
