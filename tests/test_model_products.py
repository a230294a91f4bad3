"""A GPU's way to multiply a mini-batch with a kernel equals the plain product, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from model.products import matmul

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def plain(x: Array, kernel: Array) -> Array:
    return jnp.dot(x, kernel, precision=lax.Precision.HIGHEST)


def numbers(*shape: int, dtype: str = "float32") -> Array:
    return jnp.asarray(RANDOM.normal(size=shape), dtype)


@pytest.mark.parametrize("shape", [(100, 784, 500), (100, 500, 10), (7, 30, 13), (600, 48, 500)], ids=str)
def test_value_and_gradients_are_those_of_the_plain_product(shape: tuple[int, int, int]) -> None:
    batch, inputs, units = shape
    x, kernel, dy = numbers(batch, inputs), numbers(inputs, units), numbers(batch, units)
    (actual, gradients_of), (expected, expected_gradients_of) = jax.vjp(matmul, x, kernel), jax.vjp(plain, x, kernel)
    for found, right in zip((actual, *gradients_of(dy)), (expected, *expected_gradients_of(dy)), strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-6 * np.abs(right).max())


def test_bfloat16_is_summed_up_in_float32() -> None:
    x, kernel = numbers(100, 784, dtype="bfloat16"), numbers(784, 500, dtype="bfloat16")
    actual = matmul(x, kernel)
    assert actual.dtype == jnp.bfloat16
    exact = plain(x.astype("float32"), kernel.astype("float32"))
    np.testing.assert_allclose(actual.astype("float32"), exact, rtol=2**-8, atol=1e-4)
