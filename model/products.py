"""Matrix products of a mini-batch with a kernel, at full float32 precision.

A GPU computes a product in tiles, and that of a hundred images and a few hundred units has too few of them to keep all
its cores at work: there it is summed up in parts, which run side by side.

Shapes: B images in a batch, N inputs, M units, P parts.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

_MOST_PARTS = 8
_FEW_NUMBERS = 2**17  # of a product: as many tiles of 32 × 32 as a large GPU has multiprocessors
_ALIGNED = 4  # numbers in 16 bytes, which cuBLAS reads at a time

dot = partial(jnp.dot, precision=lax.Precision.HIGHEST)


def matmul(x: Array, kernel: Array) -> Array:
    """x: [B, N]; kernel: [N, M]. Returns [B, M] in x's dtype."""
    if jax.default_backend() == "cpu":
        return dot(x, kernel)
    return _in_parts(x, kernel)


@jax.custom_vjp
def _in_parts(x: Array, kernel: Array) -> Array:
    parts = _parts(len(x), *kernel.shape)
    return _summed("bpn,pnm->pbm", x.reshape(len(x), parts, -1), kernel.reshape(parts, -1, kernel.shape[1]))


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _in_parts(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """Gradients for x and the kernel; dy: [B, M]."""
    x, kernel = residuals
    inputs, units = kernel.shape
    parts = _parts(len(dy), units, inputs)
    dx = _summed("bpm,npm->pbn", dy.reshape(len(dy), parts, -1), kernel.reshape(inputs, parts, -1))
    return dx, dot(x.T, dy)


_in_parts.defvjp(_forward, _backward)


def _parts(rows: int, summed: int, columns: int) -> int:
    """Into how many equal parts the sums of a [rows, summed] · [summed, columns] product are taken."""
    if rows * columns > _FEW_NUMBERS:
        return 1
    fitting = (parts for parts in range(1, _MOST_PARTS + 1) if summed % (parts * _ALIGNED) == 0)
    return max(fitting, default=1)


def _summed(subscripts: str, a: Array, b: Array) -> Array:
    """Over the parts, the first axis of what the einsum gives, in float32."""
    products = jnp.einsum(subscripts, a, b, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    return products.sum(axis=0).astype(a.dtype)
