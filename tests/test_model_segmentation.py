"""A number is taken apart into its digits, from left to right, each with its box in the picture that was sent."""

import contextlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageOps

from model.data import Mnist
from model.decoding import BlankDrawingError, DrawingError, UnreadableImageError
from model.drawing import from_image
from model.segmentation import MAX_DIGITS, TooManyDigitsError, segment, segment_pixels
from tests.drawings import draw, encoded, likeness, photographed

Pixels = NDArray[np.uint8]
BOXES = {1: (129, 29, 22, 222), 4: (59, 39, 153, 212), 7: (59, 49, 162, 202)}  # of tests.drawings.draw


def number(*digits: int, step: int = 200) -> Image.Image:
    """Drawings in a row, black on white, `step` pixels apart."""
    page = Image.new("L", (280 + step * (len(digits) - 1), 280), 255)
    for place, digit in enumerate(digits):
        page.paste(0, (place * step, 0), ImageOps.invert(draw(digit)))
    return page


def clean(digit: int) -> Pixels:
    return from_image(encoded(draw(digit)))


@pytest.mark.parametrize("digits", [(7,), (1, 4), (4, 7, 1), (7, 4, 1, 7), (1, 1, 4, 4, 7, 7)])
def test_digits_come_from_left_to_right_each_in_its_form(digits: tuple[int, ...]) -> None:
    found = segment(encoded(number(*digits)))
    assert len(found) == len(digits)
    for digit, one in zip(digits, found, strict=True):
        assert one.image.shape == (28, 28) and one.image.dtype == np.uint8
        assert likeness(one.image, clean(digit)) > 0.95


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_box_is_in_the_pixels_that_were_sent(scale: int, image_format: str) -> None:
    page = number(4, 7)
    found = segment(encoded(page.resize((page.width * scale, page.height * scale)), image_format))
    for place, (digit, one) in enumerate(zip((4, 7), found, strict=True)):
        left, top, width, height = BOXES[digit]
        expected = np.array([left + 200 * place, top, width, height]) * scale
        np.testing.assert_allclose(one.box, expected, atol=4 * scale)


def test_boxes_are_those_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90° clockwise
    page = number(1, 4)
    turned = encoded(page.transpose(Image.Transpose.ROTATE_90), "jpeg", exif=exif)
    for one, upright in zip(segment(turned), segment(encoded(page)), strict=True):
        np.testing.assert_allclose(one.box, upright.box, atol=4)


def test_mnist_digits_in_a_row_are_found(mnist: Mnist) -> None:
    random, right = np.random.default_rng(0), 0
    for _ in range(100):
        images = mnist.test.images[random.integers(0, 10_000, random.integers(2, 7))]
        page = np.concatenate([np.pad(image, ((20, 20), (2, 2))) for image in images], axis=1)
        right += len(segment_pixels(page)) == len(images)
    assert right >= 90


def test_an_mnist_image_passes_untouched(mnist: Mnist) -> None:
    for image in mnist.test.images[:100]:
        (one,) = segment_pixels(image)
        np.testing.assert_array_equal(one.image, image)
        left, top, width, height = one.box
        assert image[top : top + height, left : left + width].sum() == image.sum()


def test_pixels_and_the_image_of_them_give_the_same_segments() -> None:
    page = number(7, 1)
    for one, other in zip(segment(encoded(page)), segment_pixels(np.asarray(page)), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.box == other.box


def test_a_digit_of_two_pieces_is_one() -> None:
    page = number(4, 1)
    ImageDraw.Draw(page).rectangle((110, 120, 122, 170), fill=255)  # the 4's beam, cut through
    assert len(segment(encoded(page))) == 2


def test_a_five_with_its_bar_apart_is_one() -> None:
    page = Image.new("L", (400, 280), 255)
    pen = ImageDraw.Draw(page)
    pen.line([(100, 50), (190, 44)], fill=0, width=18)
    pen.line([(95, 75), (90, 130), (150, 130), (170, 180), (130, 230), (80, 225)], fill=0, width=18, joint="curve")
    page.paste(0, (150, 0), ImageOps.invert(draw(1)))
    assert len(segment(encoded(page))) == 2


def test_an_eight_of_two_circles_is_one() -> None:
    page = Image.new("L", (280, 280), 255)
    for top in (30, 150):
        ImageDraw.Draw(page).ellipse((90, top, 190, top + 100), outline=0, width=18)
    assert len(segment(encoded(page))) == 1


@pytest.mark.parametrize("shift", [0, 60])
def test_two_rows_are_not_read_as_one_number(shift: int) -> None:
    page = Image.new("L", (580, 540), 255)
    page.paste(number(4, 7), (0, 0))
    page.paste(number(7, 1), (shift, 260))
    with pytest.raises(TooManyDigitsError, match="above one another: draw one row at a time"):
        segment(encoded(page))


def test_digits_that_touch_are_cut_apart() -> None:
    page = number(4, 7)
    ImageDraw.Draw(page).line([(205, 150), (340, 150)], fill=0, width=14)  # the 4's beam runs into the 7
    found = segment(encoded(page))
    assert len(found) == 2
    assert likeness(found[0].image, clean(4)) > 0.7


@pytest.mark.parametrize("digit", [1, 4, 7])
def test_one_wide_digit_is_not_cut(digit: int) -> None:
    page = draw(digit)
    assert len(segment(encoded(page.resize((340, 280))))) == 1


def test_dots_are_dropped() -> None:
    page = number(4, 7)
    for place in ((30, 250), (245, 255), (450, 20)):
        ImageDraw.Draw(page).circle(place, 12, fill=0)
    assert len(segment(encoded(page))) == 2


@pytest.mark.parametrize("paper", ["white", "black", "transparent", "coloured"])
def test_any_paper_will_do(paper: str) -> None:
    page = number(1, 7)
    ink = ImageOps.invert(page)
    papers = {
        "white": page,
        "black": ink,
        "transparent": Image.merge("LA", (Image.new("L", page.size, 0), ink)),
        "coloured": Image.composite(
            Image.new("RGB", page.size, (40, 60, 150)), Image.new("RGB", page.size, "beige"), ink
        ),
    }
    assert len(segment(encoded(papers[paper]))) == 2


@pytest.mark.parametrize("light", ["gradient", "vignette", "lamp spot"])
def test_a_number_is_read_from_a_photograph(light: str) -> None:
    page = number(4, 7).resize((360, 210))
    found = segment(photographed(page, light=light, pen="blue", lines="ruled"))
    assert len(found) == 2
    assert likeness(found[0].image, clean(4)) > 0.85


def test_more_digits_than_a_number_has_are_refused() -> None:
    page = np.full((60, 20 * (MAX_DIGITS + 2)), 255, np.uint8)
    for place in range(MAX_DIGITS + 1):
        page[10:50, 20 * place + 12 : 20 * place + 18] = 0
    with pytest.raises(TooManyDigitsError, match=r"33 digits.*at most 32"):
        segment_pixels(page)
    assert len(segment_pixels(page[:, 20:])) == MAX_DIGITS


def test_noise_is_refused_or_taken_apart_within_bounds() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 500))
    with contextlib.suppress(DrawingError):
        assert len(segment_pixels(noise)) <= MAX_DIGITS


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (280, 600)])
def test_a_blank_picture_is_named_as_such(shape: tuple[int, int]) -> None:
    with pytest.raises(BlankDrawingError):
        segment_pixels(np.zeros(shape))


def test_what_is_no_image_is_unreadable() -> None:
    with pytest.raises(UnreadableImageError):
        segment(b"2026")
