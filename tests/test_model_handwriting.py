"""Handwriting variants: which digits get which strokes, where they are, and how wide."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from model.data import Dataset, Mnist
from model.handwriting import _drawn, _measure, _Segment, write_variants

Images = npt.NDArray[np.float32]

write = jax.jit(write_variants)


@pytest.fixture(scope="module")
def digits(mnist: Mnist) -> Dataset:
    return Dataset(mnist.train.images[:2000], mnist.train.labels[:2000])


def added(digits: Dataset, seed: int = 0, share: float = 1.0) -> Images:
    """What is written onto each image: [N, 28, 28]."""
    images = digits.images.astype(np.float32) / 255
    written = np.asarray(write(images, jnp.asarray(digits.labels), jax.random.key(seed), share=share))
    assert written.dtype == np.float32 and written.min() >= 0 and written.max() <= 1
    assert (written >= images).all()
    return written - images


def upright(left: int, right: int) -> Images:
    """A stroke from row 4 to 23 between these columns."""
    image = np.zeros((1, 28, 28), np.float32)
    image[:, 4:24, left:right] = 1
    return image


def on_stem(digit: int, draws: int = 200) -> Images:
    """What is written onto many images of one stem that say they show this digit."""
    images = np.repeat(upright(13, 16), draws, axis=0)
    return added(Dataset((images * 255).astype(np.uint8), np.full(draws, digit, np.uint8)))


def test_zeros_ones_and_sevens_alone_are_written_another_way(digits: Dataset) -> None:
    changed = added(digits).any(axis=(1, 2))
    assert not changed[~np.isin(digits.labels, (0, 1, 7))].any()
    for digit in (0, 1, 7):
        assert changed[digits.labels == digit].mean() > 0.97  # a thick digit may hide it


def test_the_share_says_how_many_are_changed_and_none_are_at_0(digits: Dataset) -> None:
    assert not added(digits, share=0.0).any()
    ones = added(digits, share=0.3)[digits.labels == 1]
    assert ones.any(axis=(1, 2)).mean() == pytest.approx(0.3, abs=0.1)


def test_same_key_same_bits_and_another_key_others(digits: Dataset) -> None:
    np.testing.assert_array_equal(added(digits, seed=1), added(digits, seed=1))
    assert (added(digits, seed=1) != added(digits, seed=2)).any()


def test_a_slash_leads_from_lower_left_to_upper_right_through_the_middle() -> None:
    ring = np.hypot(np.arange(28)[:, None] - 13.5, np.arange(28) - 13.5)
    zero = ((ring > 7.5) & (ring < 9.5)).astype(np.uint8)[None] * 255
    for slash in added(Dataset(np.repeat(zero, 50, axis=0), np.zeros(50, np.uint8))):
        np.testing.assert_allclose(slash, slash[::-1, ::-1], atol=1e-5)  # through the middle
        assert slash[13:15, 13:15].min() > 0.5
        assert slash[:13, 14:].sum() > 5 and not slash[:12, :12].any()


def test_a_flag_hangs_from_the_top_of_a_one_to_the_left_and_a_foot_is_below_on_both_sides() -> None:
    flags = on_stem(1)
    assert (flags[:, 4:14, :13].sum(axis=(1, 2)) > 1).all()
    assert not flags[:, 4:14, 17:].any() and not flags[:, :3].any() and not flags[:, 14:20].any()
    feet = flags[:, 20:24].sum(axis=1)  # [N, 28]
    np.testing.assert_allclose(feet[:, 1:], feet[:, :0:-1], atol=1e-4)  # about column 14, the stem's
    assert (feet.sum(axis=1) > 1).mean() == pytest.approx(0.5, abs=0.12)


def test_a_bar_crosses_the_stem_of_a_seven_halfway() -> None:
    bars = on_stem(7)
    assert (bars[:, 8:21, :13].sum(axis=(1, 2)) > 1).all() and (bars[:, 8:21, 16:].sum(axis=(1, 2)) > 1).all()
    assert not bars[:, :7].any() and not bars[:, 21:].any()


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_a_strokes_width_is_measured_from_its_ink(width: int) -> None:
    ink = _measure(jnp.asarray(255 * upright(10, 10 + width)))
    assert float(ink.stroke_width[0]) == pytest.approx(width, rel=0.3)  # upright, and with round ends
    assert [float(side[0]) for side in ink[:4]] == [4, 23, 10, 9 + width]


def test_a_segment_is_drawn_as_wide_as_it_should_be_with_round_ends() -> None:
    segment = _Segment(*(jnp.full(1, value, jnp.float32) for value in (14, 10, 0, 5)))
    drawn = np.asarray(_drawn(segment, jnp.full(1, 3.0, jnp.float32)))[0]
    np.testing.assert_allclose(drawn[:, 10], np.isin(np.arange(28), (13, 14, 15)), atol=1e-5)
    np.testing.assert_allclose(drawn[14], (np.arange(28) >= 4) & (np.arange(28) <= 16), atol=1e-5)


def test_images_without_ink_and_full_of_it_stay_in_0_to_1() -> None:
    images = np.stack([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)] * 3)
    assert np.isfinite(added(Dataset(images, np.array([0, 0, 1, 1, 7, 7], np.uint8)))).all()


def test_an_image_is_written_the_same_in_a_batch_of_any_size(digits: Dataset) -> None:
    few = Dataset(digits.images[:50], digits.labels[:50])
    np.testing.assert_array_equal(added(few), added(digits)[:50])
