"""Layers that look at images equal plain loops over pixels, in value and gradient, on every backend's path."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads
from pydantic import TypeAdapter, ValidationError

from model import convolution, fourier
from model.convolution import convolve, max_pool
from model.layers import layer_functions
from model.spec import TrainSpec
from model.spec_layers import Layer

RANDOM = np.random.default_rng(0)
SIZES = [(1, 1), (2, 2), (3, 1), (3, 2), (5, 3), (2, 3)]  # of window and stride


def layer(**fields: Any) -> Layer:
    return TypeAdapter(Layer).validate_python(fields)


def places(size: int, side: int, stride: int, padding: str) -> list[range]:
    """Where the window lies along one axis, as Keras' documentation has it."""
    if padding == "valid":
        return [range(start, start + side) for start in range(0, size - side + 1, stride)]
    count = math.ceil(size / stride)
    before = max((count - 1) * stride + side - size, 0) // 2
    return [range(start * stride - before, start * stride - before + side) for start in range(count)]


def loop(x: np.ndarray, side: int, stride: int, padding: str, summarise: Any) -> np.ndarray:
    """summarise(pixels [n, C], their places in the window) at every place of the window."""
    height, width = x.shape[1:3]
    rows, columns = (places(size, side, stride, padding) for size in (height, width))
    result = []
    for image, ys, xs in itertools.product(x, rows, columns):
        inside = [(y, z) for y in range(side) for z in range(side) if 0 <= ys[y] < height and 0 <= xs[z] < width]
        result.append(summarise(np.array([image[ys[y], xs[z]] for y, z in inside]), inside))
    return np.array(result).reshape(len(x), len(rows), len(columns), -1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("side", "stride"), SIZES)
def test_a_convolution_equals_a_loop_over_pixels(side: int, stride: int, padding: str) -> None:
    x = RANDOM.normal(size=(2, 7, 6, 3)).astype(np.float32)
    spec = layer(type="conv2d", filters=4, kernel_size=side, strides=stride, padding=padding, activation="tanh")
    parameters = layer_functions(spec).init(jax.random.key(0), spec, (7, 6, 3))
    parameters["bias"] = jnp.arange(4.0)
    kernel = np.asarray(parameters["kernel"], np.float64)

    def dot(pixels: np.ndarray, inside: list[tuple[int, int]]) -> np.ndarray:
        products = [pixel @ kernel[place] for pixel, place in zip(pixels, inside, strict=True)]
        return np.sum(products, axis=0) + np.arange(4)

    expected = np.tanh(loop(x, side, stride, padding, dot))
    actual = jax.jit(partial(layer_functions(spec).apply, layer=spec))(parameters, x)
    assert actual.shape[1:] == spec.output_shape((7, 6, 3))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def by_xla(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "valid") -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding.upper(), dimension_numbers=layout)


@pytest.mark.parametrize(("batch", "channels", "filters"), [(18, 3, 4), (5, 1, 40), (64, 2, 3), (16, 32, 64)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (5, 1)])
def test_a_convolution_equals_xlas_in_value_and_gradient(
    side: int, stride: int, padding: Any, batch: int, channels: int, filters: int
) -> None:
    assert_equal_to_xla(side, stride, padding, batch, channels, filters)


@pytest.mark.parametrize("most_windows", [2**20, 0], ids=["by windows", "by XLA"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_gpus_convolution_equals_xlas_in_value_and_gradient(
    most_windows: int, padding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(convolution, "_MOST_WINDOW_NUMBERS", most_windows)
    assert_equal_to_xla(3, 1, padding, batch=18, channels=3, filters=4)


def assert_equal_to_xla(side: int, stride: int, padding: Any, batch: int, channels: int, filters: int) -> None:
    shapes = ((batch, 9, 6, channels), (side, side, channels, filters))
    x, kernel = (jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for shape in shapes)
    kernel /= math.sqrt(side**2 * channels)  # so that the values, of which the sine is taken, are near 1

    def value_and_gradients(function: Any) -> Any:
        def of(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(function(x, kernel)))

        # In one program: each of the operations by itself would be one, too.
        return jax.jit(lambda *given: (function(*given), jax.grad(of, argnums=(0, 1))(*given)))(x, kernel)

    actual = value_and_gradients(partial(convolve, strides=stride, padding=padding))
    expected = partial(by_xla, stride=stride, padding=padding)
    # A kernel's gradient adds up one term a pixel, in an order of the processor's own: each may round by an epsilon.
    rounding = 2e-5 + np.finfo(np.float32).eps * batch * 9 * 6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=rounding), actual, value_and_gradients(expected))


@pytest.mark.parametrize(("height", "width", "side"), [(12, 12, 5), (9, 6, 3), (7, 7, 7), (5, 4, 2), (3, 1, 1)])
def test_products_of_fourier_transforms_are_a_convolution_and_its_gradients(height: int, width: int, side: int) -> None:
    x = jnp.asarray(RANDOM.normal(size=(4, height, width, 3)), jnp.float32)
    kernel = jnp.asarray(RANDOM.normal(size=(side, side, 3, 5)), jnp.float32)
    dy = jnp.asarray(RANDOM.normal(size=(4, height - side + 1, width - side + 1, 5)), jnp.float32)

    @jax.jit
    def expected(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        y, gradients_of = jax.vjp(by_xla, x, kernel)
        return y, *gradients_of(dy)

    @jax.jit
    def products(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        y, spectra = fourier.convolve(x, kernel)
        return y, *fourier.gradients(spectra, dy, side)

    for actual, right in zip(products(x, kernel, dy), expected(x, kernel, dy), strict=True):
        # A transform spreads each rounding over the whole image.
        np.testing.assert_allclose(actual, right, rtol=0, atol=4e-6 * np.abs(right).max())


def test_small_images_with_many_channels_are_convolved_by_fourier_transforms() -> None:
    assert fourier.is_cheaper((128, 12, 12, 32), (5, 5, 32, 64))
    assert fourier.is_cheaper((16, 9, 6, 32), (3, 3, 32, 64))  # as above, where XLA's is what it has to equal
    assert not fourier.is_cheaper((128, 28, 28, 32), (5, 5, 32, 64))
    assert not fourier.is_cheaper((1, 12, 12, 32), (5, 5, 32, 64))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("side", "stride"), SIZES)
@pytest.mark.parametrize(("kind", "summarise"), [("max_pooling2d", np.max), ("average_pooling2d", np.mean)])
def test_pooling_equals_a_loop_over_pixels(kind: str, summarise: Any, side: int, stride: int, padding: str) -> None:
    x = RANDOM.normal(size=(2, 7, 6, 3)).astype(np.float32) - 5  # below zero, so that padding would show
    spec = layer(type=kind, pool_size=side, strides=stride, padding=padding)
    expected = loop(x, side, stride, padding, lambda pixels, _: summarise(pixels, axis=0))
    apply = jax.jit(lambda x: layer_functions(spec).apply({}, x, spec))
    actual = apply(x)
    assert actual.shape[1:] == spec.output_shape((7, 6, 3))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    check_grads(apply, (x,), order=1, modes=["rev"], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("side", "stride"), SIZES)
def test_the_first_of_equal_pixels_has_the_gradient_of_the_largest(side: int, stride: int, padding: Any) -> None:
    x = RANDOM.integers(0, 3, (2, 7, 6, 1)).astype(np.float32)
    expected = np.zeros_like(x)
    for ys, xs in itertools.product(places(7, side, stride, padding), places(6, side, stride, padding)):
        rows, columns = [y for y in ys if 0 <= y < 7], [z for z in xs if 0 <= z < 6]
        window = np.ix_(rows, columns)
        for image, gradient in zip(x[..., 0], expected[..., 0], strict=True):
            row, column = np.unravel_index(image[window].argmax(), (len(rows), len(columns)))
            gradient[rows[row], columns[column]] += 1
    actual = jax.jit(jax.grad(lambda x: max_pool(x, side, stride, padding).sum()))(x)
    np.testing.assert_array_equal(actual, expected)


def test_a_large_windows_maximum_is_taken_along_columns_and_then_along_rows() -> None:
    program = str(jax.make_jaxpr(partial(max_pool, side=28, stride=1, padding="same"))(jnp.zeros((1, 28, 28, 1))))
    assert program.count("select_n") < 2 * 28  # one for each of 28 · 28 pixels takes minutes to compile


def test_a_window_moves_by_its_own_side_unless_told_otherwise() -> None:
    assert layer(type="max_pooling2d", pool_size=3).output_shape((28, 28, 4)) == (9, 9, 4)


def test_global_average_pooling_is_the_mean_of_each_channel() -> None:
    x = RANDOM.normal(size=(2, 7, 6, 3)).astype(np.float32)
    spec = layer(type="global_average_pooling2d")
    actual = layer_functions(spec).apply({}, jnp.asarray(x), spec)
    np.testing.assert_allclose(actual, x.mean(axis=(1, 2)), atol=1e-6)
    assert spec.output_shape((7, 6, 3)) == (3,)


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        ("glorot_uniform", math.sqrt(2 / (9 * 64 + 9 * 128))),
        ("glorot_normal", math.sqrt(2 / (9 * 64 + 9 * 128))),
        ("he_uniform", math.sqrt(2 / (9 * 64))),
        ("he_normal", math.sqrt(2 / (9 * 64))),
        ("lecun_uniform", math.sqrt(1 / (9 * 64))),
        ("lecun_normal", math.sqrt(1 / (9 * 64))),
        ("zeros", 0.0),
    ],
)
def test_a_kernel_starts_with_its_initializers_spread(initializer: str, deviation: float) -> None:
    spec = layer(type="conv2d", filters=128, kernel_initializer=initializer)
    kernel = np.asarray(layer_functions(spec).init(jax.random.key(0), spec, (28, 28, 64))["kernel"])
    assert kernel.std() == pytest.approx(deviation, rel=0.01)


def test_an_orthogonal_kernel_keeps_lengths() -> None:
    spec = layer(type="dense", units=32, kernel_initializer="orthogonal")
    kernel = np.asarray(layer_functions(spec).init(jax.random.key(0), spec, (64,))["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(32), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ([{"type": "flatten"}, {"type": "conv2d", "filters": 8}], "it needs an image, not 784"),
        ([{"type": "flatten"}, {"type": "max_pooling2d"}], "it needs an image, not 784"),
        (
            [{"type": "max_pooling2d", "pool_size": 14}, {"type": "conv2d", "filters": 8}],
            "its window of 3 × 3 does not fit into 2 × 2 × 1",
        ),
        ([{"type": "conv2d", "filters": 8}, {"type": "dense", "units": 10}], "it needs a flat input"),
        (
            [{"type": "flatten"}, {"type": "global_average_pooling2d"}],
            "it needs an image, not 784; put it in the flatten's place",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_with_index_and_reason(network: list[Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainSpec.model_validate({"network": network})
    (error,) = caught.value.errors()
    assert error["loc"] == ("network", 1, network[1]["type"])
    assert error["msg"].startswith(says)
