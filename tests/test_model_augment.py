"""Augmentation: each change by hand or against a NumPy loop, the draws by their statistics."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from jax import Array

from model import augment as module
from model.augment import _affine_sources, _draw, _Draws, _elastic_displacements, _resample, _smoothing, _thicken
from model.data import Mnist
from model.spec_augmentation import Augmentation

Images = npt.NDArray[np.float32]
EVERYTHING = Augmentation(
    probability=0.9, shift=2, rotation=10, scale=0.1, shear=10, elastic=1, thickness=0.5, noise=0.05, variants=0.5
)
CHANGES: list[dict[str, Any]] = [
    {"shift": 3},
    {"rotation": 20},
    {"scale": 0.2},
    {"shear": 20},
    {"elastic": 1.5},
    {"thickness": 0.7},
    {"noise": 0.1},
    {"variants": 1},
]


@partial(jax.jit, static_argnames="augmentation")
def augment(images: Array, key: Array, *, augmentation: Augmentation) -> Array:
    """Of images that all show a 7."""
    return module.augment(images, jnp.full(len(images), 7, jnp.uint8), key, augmentation=augmentation)


@pytest.fixture(scope="module")
def digits(mnist: Mnist) -> Images:
    return (mnist.train.images[:9] / 255).astype(np.float32)


def _drawn(**shares: float) -> _Draws:
    """One image's draws: these, and 0 for the rest."""
    return _Draws(*(jnp.full((1, 1, 1), shares.get(name, 0.0), jnp.float32) for name in _Draws._fields))


def _moved(image: npt.NDArray[Any], draws: _Draws, **changes: float) -> Images:
    sources = _affine_sources(draws, Augmentation.model_validate(changes))
    return np.asarray(_resample(jnp.asarray(image, jnp.float32)[None], *sources))[0]


def _bilinear(image: Images, row: float, column: float) -> float:
    """The four pixels around a point, weighted by their distance; those outside are 0."""
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < 28 and 0 <= j < 28:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * float(image[i, j])
    return total


def _dot(row: int, column: int) -> Images:
    image = np.zeros((28, 28), np.float32)
    image[row, column] = 1
    return image


def _centre_of_ink(image: Images) -> tuple[float, float]:
    """Row and column, from the image's centre."""
    places = np.arange(28) - 13.5
    return float(image.sum(1) @ places / image.sum()), float(image.sum(0) @ places / image.sum())


def test_resampling_equals_a_loop_over_pixels(digits: Images) -> None:
    rows, columns = np.random.default_rng(0).uniform(-3, 31, (2, 2, 28, 28)).astype(np.float32)
    expected = [
        [[_bilinear(digits[b], rows[b, i, j], columns[b, i, j]) for j in range(28)] for i in range(28)]
        for b in range(2)
    ]
    np.testing.assert_allclose(_resample(*map(jnp.asarray, (digits[:2], rows, columns))), expected, atol=1e-5)


def test_a_block_is_shifted_down_and_to_the_right_and_over_the_edge(digits: Images) -> None:
    expected = np.zeros((28, 28), np.float32)
    expected[3:, :-2] = digits[0, :-3, 2:]
    np.testing.assert_array_equal(_moved(digits[0], _drawn(down=0.75, right=-0.5), shift=4), expected)


def test_half_a_turn_flips_both_axes(digits: Images) -> None:
    turned = _moved(digits[0], _drawn(rotation=1), rotation=180)
    np.testing.assert_allclose(turned, digits[0, ::-1, ::-1], atol=1e-4)


def test_a_positive_quarter_turn_is_clockwise(digits: Images) -> None:
    turned = _moved(digits[0], _drawn(rotation=0.5), rotation=180)
    np.testing.assert_allclose(turned, np.rot90(digits[0], -1), atol=1e-4)


@pytest.mark.parametrize(("share", "side"), [(1.0, 12), (-1.0, 4)])
def test_scaling_by_a_half_turns_a_block_of_8_into_one_of(share: float, side: int) -> None:
    image = np.zeros((28, 28), np.float32)
    image[10:18, 10:18] = 1
    scaled = _moved(image, _drawn(scale=share), scale=0.5)
    assert scaled[14].sum() == pytest.approx(side, abs=0.4)  # edges fall between pixels
    assert scaled[:, 14].sum() == pytest.approx(side, abs=0.4)
    assert _centre_of_ink(scaled) == pytest.approx((0, 0), abs=1e-5)


def test_shearing_leans_uprights_to_the_right_and_keeps_rows() -> None:
    image = np.zeros((28, 28), np.float32)
    image[4:24, 13:15] = 1
    leant = _moved(image, _drawn(shear=1), shear=45)
    for row in range(4, 24):
        assert leant[row].sum() == pytest.approx(2, abs=1e-5)
        assert leant[row] @ (np.arange(28) - 13.5) / 2 == pytest.approx(13.5 - row, abs=1e-4)
    assert not leant[:4].any() and not leant[24:].any()


def test_changes_apply_as_scale_shear_rotation_shift() -> None:
    draws = _drawn(scale=1, shear=1, rotation=0.5, down=1, right=0.5)
    moved = _moved(_dot(11, 14), draws, scale=0.6, shear=45, rotation=180, shift=2)
    # (-2.5, 0.5) · 1.6 = (-4, 0.8); leant (-4, 4.8); a quarter turn clockwise (4.8, 4); shifted (6.8, 5)
    assert np.unravel_index(moved.argmax(), moved.shape) == (round(13.5 + 6.8), round(13.5 + 5))


@pytest.mark.parametrize("sigma", [1.0, 1.7, 4.0, 14.0])
def test_smoothed_noise_has_the_gaussians_covariance_everywhere(sigma: float) -> None:
    smoothing = _smoothing(sigma)
    assert smoothing.dtype == np.float32
    distances = np.arange(28)[:, None] - np.arange(28)
    np.testing.assert_allclose(smoothing @ smoothing.T, np.exp(-((distances / sigma) ** 2) / 4), atol=1e-3)


def test_elastic_displacements_have_their_root_mean_square_everywhere_and_no_preferred_side() -> None:
    moved = np.asarray(_elastic_displacements(jax.random.key(0), 2000, Augmentation(elastic=1.5)))
    assert moved.shape == (2000, 2, 28, 28) and moved.dtype == np.float32
    np.testing.assert_allclose(np.sqrt((moved**2).sum(axis=1).mean(axis=0)), 1.5, rtol=0.07)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.12)
    assert np.corrcoef(moved[:, 0, 14, 14], moved[:, 1, 14, 14])[0, 1] == pytest.approx(0, abs=0.1)


def test_a_dot_thickens_to_a_plus_and_a_plus_thins_to_a_dot() -> None:
    dot = _dot(5, 0)
    plus = dot + _dot(4, 0) + _dot(6, 0) + _dot(5, 1)
    np.testing.assert_array_equal(_thicken(jnp.asarray(dot)[None], jnp.ones((1, 1, 1)))[0], plus)
    np.testing.assert_array_equal(_thicken(jnp.asarray(plus)[None], -jnp.ones((1, 1, 1)))[0], dot)


def test_ink_grows_with_thickness_and_none_leaves_the_image(digits: Images) -> None:
    thickness = jnp.linspace(-1, 1, 9, dtype=jnp.float32)[:, None, None]
    thickened = np.asarray(_thicken(jnp.asarray(np.repeat(digits[:1], 9, axis=0)), thickness))
    np.testing.assert_array_equal(thickened[4], digits[0])
    assert (np.diff(thickened, axis=0) >= 0).all()
    assert (np.diff(thickened.sum(axis=(1, 2))) > 1).all()
    assert thickened.min() >= 0 and thickened.max() <= 1


def test_noise_alone_adds_to_each_pixel_and_resamples_nothing(digits: Images) -> None:
    @jax.jit
    def expected(images: Array, key: Array) -> Array:
        noise_key = jax.random.split(key, 3)[2]
        return jnp.clip(images + 0.1 * jax.random.normal(noise_key, images.shape), 0, 1)

    noisy = augment(digits, jax.random.key(3), augmentation=Augmentation(noise=0.1))
    np.testing.assert_array_equal(noisy, expected(digits, jax.random.key(3)))


def test_noise_has_its_standard_deviation() -> None:
    grey = jnp.full((100, 28, 28), 0.5, jnp.float32)
    noise = np.asarray(augment(grey, jax.random.key(0), augmentation=Augmentation(noise=0.08))) - 0.5
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.001)


def test_draws_fill_their_range_evenly_and_apart_from_each_other() -> None:
    draws = np.asarray(_draw(jax.random.key(0), 20_000))[:, :, 0, 0]  # [7, B]
    assert (draws >= -1).all() and (draws < 1).all()
    np.testing.assert_allclose(draws.mean(axis=1), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(draws), np.eye(7) / 3, atol=0.02)  # 1/3: of a uniform distribution


def test_shifts_are_at_most_what_was_given_and_nothing_on_average() -> None:
    dots = jnp.asarray(np.repeat(_dot(13, 13)[None], 3000, axis=0))
    shifted = np.asarray(augment(dots, jax.random.key(0), augmentation=Augmentation(shift=3)))
    shifts = np.array([_centre_of_ink(image) for image in shifted]) + 0.5
    assert np.abs(shifts).max() == pytest.approx(3, abs=0.01)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.1)


def test_images_below_the_probability_change_and_the_others_keep_their_bits(digits: Images) -> None:
    images = np.repeat(digits[:1], 2000, axis=0)
    changed = np.asarray(augment(images, jax.random.key(0), augmentation=Augmentation(probability=0.3, rotation=30)))
    touched = (changed != images).any(axis=(1, 2))
    assert touched.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_each_change_alone_changes_every_digit(change: dict[str, Any], digits: Images) -> None:
    changed = np.asarray(augment(digits, jax.random.key(1), augmentation=Augmentation(**change)))
    assert (np.abs(changed - digits).max(axis=(1, 2)) > 0.02).all()
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1


def test_full_ink_and_none_stay_in_0_to_1() -> None:
    images = np.ones((9, 28, 28), np.float32)
    images[4:] = 0
    changed = np.asarray(augment(images, jax.random.key(2), augmentation=EVERYTHING))
    assert changed.shape == images.shape and changed.dtype == np.float32
    assert changed.min() == 0 and changed.max() == 1


def test_same_key_same_bits_and_another_key_others(digits: Images) -> None:
    change = partial(augment, digits, augmentation=EVERYTHING)
    first, again, other = (np.asarray(change(jax.random.key(seed))) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).max(axis=(1, 2)) > 0.02).sum() >= 8  # an image may stay as it is under both


def test_an_image_becomes_the_same_in_a_batch_of_any_size_and_company(digits: Images) -> None:
    of_nine = augment(digits, jax.random.key(7), augmentation=EVERYTHING)
    of_five = augment(digits[:5], jax.random.key(7), augmentation=EVERYTHING)
    company = np.concatenate([digits[:5], 1 - digits[5:]])
    np.testing.assert_array_equal(of_five, of_nine[:5])
    np.testing.assert_array_equal(of_nine[:5], augment(company, jax.random.key(7), augmentation=EVERYTHING)[:5])
