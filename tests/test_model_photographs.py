"""A photograph of a digit on paper gives the form of the clean drawing, whatever light falls on it."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.decoding import BlankDrawingError
from model.drawing import from_image, from_pixels
from tests.drawings import LIGHTS, PENS, PHOTOGRAPH, draw, encoded, likeness, photographed

Pixels = NDArray[np.uint8]
ALIKE = 0.93  # correlation; the forms of two different digits have less than 0.5


@pytest.fixture(scope="module")
def clean() -> dict[int, Pixels]:
    return {digit: from_image(encoded(draw(digit))) for digit in (1, 4, 7)}


def test_the_judge_tells_digits_apart(clean: dict[int, Pixels]) -> None:
    assert max(likeness(clean[one], clean[other]) for one, other in ((1, 4), (1, 7), (4, 7))) < 0.6


@pytest.mark.parametrize("digit", [1, 4, 7])
@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("pen", PENS)
def test_any_pen_in_any_light(light: str, pen: str, digit: int, clean: dict[int, Pixels]) -> None:
    assert likeness(from_image(photographed(draw(digit), light=light, pen=pen)), clean[digit]) > ALIKE


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("lines", ["ruled", "squared"])
def test_lines_on_the_paper_are_not_drawn(lines: str, light: str, clean: dict[int, Pixels]) -> None:
    assert likeness(from_image(photographed(draw(4), light=light, pen="blue", lines=lines)), clean[4]) > ALIKE


@pytest.mark.parametrize("light", ["gradient", "dim"])
def test_a_ball_pen_on_squared_paper(light: str) -> None:
    thin = draw(4, width=7)
    photograph = photographed(thin, light=light, pen="blue", lines="squared")
    assert likeness(from_image(photograph), from_image(encoded(thin))) > ALIKE


@pytest.mark.parametrize("light", LIGHTS)
def test_dust_is_not_drawn(light: str, clean: dict[int, Pixels]) -> None:
    assert likeness(from_image(photographed(draw(7), light=light, dust=12)), clean[7]) > ALIKE


@pytest.mark.parametrize("light", LIGHTS)
def test_a_table_beside_the_paper_is_not_drawn(light: str, clean: dict[int, Pixels]) -> None:
    assert likeness(from_image(photographed(draw(4), light=light, table=True)), clean[4]) > ALIKE


@pytest.mark.parametrize("border", [(0, 120), (120, 0), 40], ids=["bars above and below", "bars beside", "frame"])
@pytest.mark.parametrize("colour", ["black", "white", "orange"])
@pytest.mark.parametrize("light", ["even", "gradient", "dim"])
def test_bars_and_frames_are_no_ink(
    light: str, colour: str, border: int | tuple[int, int], clean: dict[int, Pixels]
) -> None:
    for digit in (4, 7):
        photograph = Image.open(BytesIO(photographed(draw(digit), light=light)))
        framed = ImageOps.expand(photograph, border, colour)
        assert likeness(from_image(encoded(framed, "jpeg")), clean[digit]) > ALIKE


@pytest.mark.parametrize("table", ["black", "saddlebrown", "steelblue", "dimgray"])
@pytest.mark.parametrize("angle", [-12, 4, 11])
@pytest.mark.parametrize("cut", [0, 130], ids=["whole", "beyond the picture"])
def test_a_sheet_that_lies_askew_on_a_table(table: str, angle: int, cut: int) -> None:
    page = Image.open(BytesIO(photographed(draw(4)))).rotate(angle, expand=True)
    beside = Image.new("L", PHOTOGRAPH[::-1]).rotate(angle, expand=True, fillcolor=255)
    page.paste(table, mask=beside)
    framed = np.asarray(ImageOps.expand(page, 60, table), np.float64)
    wood = 1 + 0.15 * np.sin(np.arange(len(framed)) / 6)
    wood = np.where(np.asarray(ImageOps.expand(beside, 60, 255)) == 255, wood[:, None], 1)
    lit = framed * wood[..., None] * np.linspace(1, 0.7, framed.shape[1])[:, None]
    photograph = Image.fromarray(lit.clip(0, 255).astype(np.uint8)[cut:, cut:])
    upright = from_image(encoded(draw(4).rotate(angle, fillcolor=255)))
    assert likeness(from_image(encoded(photograph, "jpeg")), upright) > ALIKE


@pytest.mark.parametrize("hole", [None, (slice(90, 190), slice(110, 170))], ids=["1", "0"])
def test_a_digit_of_blocks_is_no_frame(hole: tuple[slice, slice] | None) -> None:
    page = np.full((280, 280), 255, np.uint8)
    page[30:250, 70:210] = 0
    if hole:
        page[hole] = 255
    corners = from_pixels(page)[[4, 4, 23, 23], [8, 19, 8, 19]]
    assert (corners > 200).all()


@pytest.mark.parametrize("quality", [25, 50, 95])
def test_a_jpeg_of_any_quality(quality: int, clean: dict[int, Pixels]) -> None:
    photograph = photographed(draw(4), light="gradient", pen="red", quality=quality)
    assert likeness(from_image(photograph), clean[4]) > ALIKE


@pytest.mark.parametrize("light", ["gradient", "vignette", "shadow edge"])
def test_chalk_on_a_board(light: str, clean: dict[int, Pixels]) -> None:
    negative = ImageOps.invert(Image.open(BytesIO(photographed(draw(7), light=light))))
    assert likeness(from_image(encoded(negative)), clean[7]) > ALIKE


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("lines", ["", "ruled"])
def test_blank_paper_is_blank(light: str, lines: str) -> None:
    with pytest.raises(BlankDrawingError):
        from_image(photographed(Image.new("L", (280, 280), 255), light=light, lines=lines))


@pytest.mark.parametrize("digit", [1, 4, 7])
def test_a_clean_drawing_cut_tight_is_no_photograph(digit: int, clean: dict[int, Pixels]) -> None:
    page = draw(digit)
    box = ImageOps.invert(page).getbbox()
    assert box is not None
    tight = page.crop((box[0] - 2, box[1], box[2] + 2, box[3]))
    assert likeness(from_image(encoded(tight)), clean[digit]) > ALIKE


def test_dust_on_a_clean_canvas_does_not_move_the_digit(clean: dict[int, Pixels]) -> None:
    page = np.array(draw(4))
    page[20:24, 20:24] = page[260:264, 250:254] = 0
    np.testing.assert_array_equal(from_pixels(page), clean[4])


def test_a_drawing_in_two_pieces_keeps_both() -> None:
    page = np.full((280, 280), 255, np.uint8)
    page[40:60, 60:220] = 0
    page[100:240, 130:150] = 0
    form = from_pixels(page)
    assert form[:14].any() and form[14:].any()
    assert np.ptp(form.any(axis=1).nonzero()[0]) == 19
