"""Whatever it is drawn on and with, a digit comes out in MNIST's form; what is no drawing is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, ImageDraw, ImageOps

from model.data import Mnist
from model.decoding import (
    MAX_IMAGE_PIXELS,
    MAX_IMAGE_SIDE,
    BlankDrawingError,
    DrawingError,
    ImageTooLargeError,
    UnreadableImageError,
)
from model.drawing import from_image, from_pixels
from tests.drawings import draw
from tests.png import png

Pixels = NDArray[np.uint8]

FOUR = draw(4)  # black on white, 280 x 280
INK = ImageOps.invert(FOUR)
BLACK = Image.new("L", FOUR.size, 0)
OPAQUE = Image.new("L", FOUR.size, 255)


def saved(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def paper_with(*boxes: tuple[int, int, int, int], side: int = 280) -> Pixels:
    """White paper with black rectangles: (left, top, right, bottom)."""
    pixels = np.full((side, side), 255, np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 0
    return pixels


def difference(form: Pixels, other: Pixels) -> float:
    """Mean distance in gray levels, wherever rounding has placed the forms; two digits are about 30 apart."""
    moved = [np.roll(form.astype(int), (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(float(np.abs(form - other).mean()) for form in moved)


def inked_size(form: NDArray[np.generic]) -> tuple[int, int]:
    """Width and height of the box around all ink."""
    rows, columns = form.any(axis=1).nonzero()[0], form.any(axis=0).nonzero()[0]
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.fixture(scope="module")
def four() -> Pixels:
    return from_image(saved(FOUR))


# The form


def test_a_drawing_is_scaled_to_20_pixels_about_its_centre_of_mass() -> None:
    # 160 x 200 px, so a tenth: a beam of 16 x 4 over a stem of 5 x 16, whose columns start at the beam's sixth.
    # Rows: (64 * 1.5 + 80 * 11.5) / 144 = 7.06, columns: (64 * 7.5 + 80 * 7) / 144 = 7.22, both moved to 14.
    expected = np.zeros((28, 28), np.uint8)
    expected[7:11, 7:23] = 255
    expected[11:27, 12:17] = 255
    form = from_pixels(paper_with((60, 40, 220, 80), (110, 80, 160, 240)))
    np.testing.assert_array_equal(form, expected)


def test_lopsided_ink_is_kept_whole() -> None:
    # A stem of 1 x 16 on a foot of 16 x 4. Its centre of mass, row 15.5, would move the first row to -1.5.
    expected = np.zeros((28, 28), np.uint8)
    expected[0:16, 14] = 255
    expected[16:20, 7:23] = 255
    form = from_pixels(paper_with((130, 40, 140, 200), (60, 200, 220, 240)))
    np.testing.assert_array_equal(form, expected)


@pytest.mark.parametrize("digit", [1, 4, 7])
@pytest.mark.parametrize("corner", [(0, 0), (400, 130)])
def test_a_drawing_anywhere_on_the_page_has_its_centre_of_mass_on_pixel_14(digit: int, corner: tuple[int, int]) -> None:
    page = Image.new("L", (700, 500), 255)
    page.paste(draw(digit), corner)
    form = from_image(saved(page)).astype(float)
    at = np.arange(28)
    assert abs((form.sum(axis=1) @ at) / form.sum() - 14) <= 0.5
    assert abs((form.sum(axis=0) @ at) / form.sum() - 14) <= 0.5
    assert max(inked_size(form)) == 20


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [(200, 200, 280), (200, 100, 280), (60, 200, 280), (40, 30, 280), (31, 47, 112), (13, 17, 40), (10, 7, 28)],
)
def test_the_aspect_is_kept_at_every_size(width: int, height: int, side: int) -> None:
    form = from_pixels(paper_with((10, 10, 10 + width, 10 + height), side=side))
    longer = max(width, height)
    assert inked_size(form) == (round(20 * width / longer), round(20 * height / longer))


def test_a_digit_of_the_right_size_in_the_wrong_place_is_moved() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[0:20, 1:10] = 255  # its centre of mass is row 9.5 and column 5
    form = from_pixels(pixels)
    assert form[:, 10:19].sum() == pixels.sum()
    assert form[5:24].sum() in (pixels.sum(), pixels.sum() * 19 / 20)


def test_a_digit_too_large_in_the_right_place_is_scaled() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[1:27, 8:21] = 255
    assert inked_size(from_pixels(pixels)) == (10, 20)


def test_the_steps_of_a_small_stroke_are_smoothed_where_it_is_enlarged() -> None:
    steps = np.kron(np.eye(5), np.full((2, 2), 255))  # a diagonal of 10 x 10 px, black and white alone
    form = from_pixels(np.pad(steps, 15))
    assert ((form > 50) & (form < 200)).sum() > 20


def test_what_comes_out_is_the_callers_own() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 10:19] = 255
    form = from_pixels(pixels)
    form[:] = 7
    assert set(np.unique(pixels)) == {0, 255}


def test_every_mnist_test_image_passes_untouched(mnist: Mnist) -> None:
    for image in mnist.test.images:
        np.testing.assert_array_equal(from_pixels(image), image)


def test_an_mnist_image_passes_untouched_as_a_file_and_as_its_negative(mnist: Mnist) -> None:
    for image in mnist.test.images[:100]:
        np.testing.assert_array_equal(from_image(saved(Image.fromarray(image))), image)
        np.testing.assert_array_equal(from_image(saved(Image.fromarray(255 - image))), image)


def test_an_mnist_image_of_fractions_is_rounded_and_a_faint_one_stretched(mnist: Mnist) -> None:
    for image in mnist.test.images[:100]:
        np.testing.assert_array_equal(from_pixels(np.maximum(image - 0.4, 0)), image)
        assert from_pixels(image // 3).max() == 255


def test_a_drawing_cut_tight_is_no_photograph(mnist: Mnist) -> None:
    # Its strokes run along the border, which is not paper alone any more.
    for image in mnist.test.images[:50]:
        rows, columns = image.any(axis=1).nonzero()[0], image.any(axis=0).nonzero()[0]
        digit = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        large = np.asarray(digit.resize((digit.width * 9, digit.height * 9), Image.Resampling.BICUBIC))
        if np.median(np.concatenate([large[0], large[-1], large[:, 0], large[:, -1]])) == 0:
            assert difference(from_pixels(large), from_pixels(np.pad(large, 8))) < 3


def test_an_mnist_image_off_its_place_comes_back_to_it(mnist: Mnist) -> None:
    images = mnist.test.images[:200]
    moved = [from_pixels(np.pad(image, ((9, 1), (2, 30)))) for image in images]
    assert np.mean([difference(form, image) for form, image in zip(moved, images, strict=True)]) < 5


# Any pen on any paper


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(INK, id="white on black"),
        pytest.param(Image.merge("RGBA", (BLACK, BLACK, BLACK, INK)), id="transparent canvas, black ink"),
        pytest.param(Image.merge("RGBA", (INK, INK, INK, INK)), id="transparent canvas, white ink"),
        pytest.param(Image.merge("LA", (BLACK, INK)), id="transparent gray canvas"),
        pytest.param(Image.merge("RGBA", (FOUR, FOUR, FOUR, OPAQUE)), id="opaque canvas"),
        pytest.param(FOUR.convert("RGB").quantize(2), id="palette"),
        pytest.param(FOUR.convert("1", dither=Image.Dither.NONE), id="1 bit"),
        pytest.param(Image.fromarray(np.asarray(FOUR).astype(np.uint16) * 257), id="16 bits"),
        pytest.param(
            Image.fromarray(20_000 + np.asarray(FOUR).astype(np.uint16) * 100), id="16 bits, faint, never below 8"
        ),
        pytest.param(Image.fromarray(np.asarray(FOUR).astype(np.uint16) * 16), id="12 bits of 16"),
        pytest.param(Image.fromarray(3000 + np.asarray(FOUR).astype(np.uint16)), id="8 bits of 16, far from 0"),
        pytest.param(Image.merge("LA", (FOUR, OPAQUE)), id="opaque gray canvas"),
        pytest.param(draw(4, mode="RGB", ink="yellow", paper="white"), id="yellow on white"),
        pytest.param(draw(4, mode="RGB", ink=(190, 20, 20), paper=(30, 30, 40)), id="red on dark"),
        pytest.param(ImageChops.add(FOUR, OPAQUE, 1.2), id="pale gray on white"),
    ],
)
def test_the_same_drawing_gives_the_same_form(image: Image.Image, four: Pixels) -> None:
    assert difference(from_image(saved(image)), four) < 2


@pytest.mark.parametrize(
    ("image", "transparent"),
    [
        pytest.param(FOUR, 255, id="gray"),
        pytest.param(FOUR.convert("RGB"), (255, 255, 255), id="colour"),
        pytest.param(FOUR.convert("P"), 255, id="palette"),
        pytest.param(FOUR.convert("P"), bytes([255] + [0] * 255), id="palette with opacities"),
    ],
)
def test_paper_made_transparent_by_its_colour_is_paper(
    image: Image.Image, transparent: int | tuple[int, ...] | bytes, four: Pixels
) -> None:
    assert difference(from_image(saved(image, transparency=transparent)), four) < 0.1


def test_a_hole_in_opaque_paper_is_no_ink(four: Pixels) -> None:
    erased = Image.merge("RGBA", (FOUR, FOUR, FOUR, OPAQUE))
    erased.paste((0, 0, 0, 0), (10, 10, 50, 50))
    np.testing.assert_array_equal(from_image(saved(erased)), four)


@pytest.mark.parametrize(
    ("image_format", "mode", "options"),
    [
        ("JPEG", "L", {"quality": 75}),
        ("JPEG", "RGB", {"quality": 20}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("WEBP", "RGB", {"quality": 50}),
        ("WEBP", "RGBA", {"lossless": True}),
    ],
)
def test_every_format_gives_the_same_form(
    image_format: str, mode: str, options: dict[str, object], four: Pixels
) -> None:
    assert difference(from_image(saved(FOUR.convert(mode), image_format, **options)), four) < 1


def test_a_cmyk_jpeg_is_read_whichever_way_round_its_inks_are(four: Pixels) -> None:
    # Adobe stores CMYK inverted and says so in a segment of its own; without it the levels are taken as they are.
    adobe = saved(FOUR.convert("CMYK"), "JPEG")
    start = adobe.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", adobe, start + 2)
    for content in (adobe, adobe[:start] + adobe[start + 2 + length :]):
        assert difference(from_image(content), four) < 2


def test_a_blank_page_of_16_bits_is_blank_whatever_its_grain() -> None:
    grain = np.random.default_rng(0).integers(0, 60, (280, 280))
    with pytest.raises(BlankDrawingError):
        from_image(saved(Image.fromarray((30_000 + grain).astype(np.uint16))))


@pytest.mark.parametrize("side", [1000, 4000])
def test_a_photograph_shrunk_while_it_is_decoded_gives_the_same_form(side: int, four: Pixels) -> None:
    large = FOUR.convert("RGB").resize((side, side))
    assert difference(from_image(saved(large, "JPEG")), four) < 3


@pytest.mark.parametrize("side", [28, 40, 64, 112])
def test_a_small_drawing_gives_nearly_the_same_form(side: int, four: Pixels) -> None:
    assert difference(from_image(saved(FOUR.resize((side, side), Image.Resampling.BOX))), four) < 10


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = saved(FOUR, image_format, exif=exif)
    upright = saved(ImageOps.exif_transpose(Image.open(io.BytesIO(turned))))
    assert difference(from_image(turned), from_image(upright)) < 1
    assert (difference(from_image(turned), from_image(saved(FOUR))) < 1) == (orientation == 1)


def test_big_endian_exif_is_read() -> None:
    colours = struct.pack(">HHIHH", 0x0106, 3, 1, 2, 0)
    upside_down = struct.pack(">HHIHH", 0x0112, 3, 1, 3, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + colours + upside_down + bytes(4)
    turned = from_image(saved(FOUR, exif=exif))
    np.testing.assert_array_equal(turned, from_image(saved(FOUR.rotate(180))))


def test_a_faint_drawing_is_stretched_to_full_ink(four: Pixels) -> None:
    faint = from_pixels(100 + np.asarray(FOUR) * 0.12)  # gray levels 100 to 131
    assert faint.max() == 255
    assert difference(faint, four) < 3


@pytest.mark.parametrize("digit", [1, 4, 7])
def test_a_hairline_is_thickened_to_a_pen_that_mnist_knows(digit: int) -> None:
    pen, hairline = from_image(saved(draw(digit))), from_image(saved(draw(digit, width=3)))
    # At the scale of 200 to 20 px, 3 px wide strokes would hold a seventh of the ink of 22 px wide ones.
    assert float(hairline.sum()) == pytest.approx(float(pen.sum()), rel=0.2)
    assert hairline.max() == 255


def test_a_slanted_stroke_of_a_pen_that_mnist_knows_is_not_thickened() -> None:
    page = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(page).line([(40, 40), (240, 240)], fill=0, width=26)
    black = np.asarray(page) == 0
    area = black.sum() * (20 / max(inked_size(black))) ** 2  # at 20 px
    assert from_image(saved(page)).sum() / 255 == pytest.approx(area, rel=0.05)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda page, random: page * 0.7 + random.normal(40, 20, page.shape), id="grain"),
        pytest.param(lambda page, random: np.where(random.random(page.shape) < 0.0003, 255 - page, page), id="specks"),
        pytest.param(lambda page, random: page * 0.6 + np.linspace(0, 90, 280), id="shade from one side"),
    ],
)
def test_noise_neither_shows_nor_moves_the_digit(spoil: object, four: Pixels) -> None:
    page = np.asarray(FOUR).astype(float)
    noisy = np.clip(spoil(page, np.random.default_rng(0)), 0, 255)
    assert difference(from_pixels(noisy), four) < 10


# What is no drawing


def jpeg(width: int, height: int) -> bytes:
    """A JPEG that claims a size which it has not."""
    content = bytearray(saved(FOUR, "JPEG"))
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    return bytes(content)


FRAMES = {"save_all": True, "append_images": [draw(7)], "duration": 100}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"three", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="svg"),
        pytest.param(saved(FOUR, "GIF"), id="gif"),
        pytest.param(saved(FOUR, "BMP"), id="bmp"),
        pytest.param(saved(FOUR, "TIFF"), id="tiff"),
        pytest.param(saved(FOUR, "PPM"), id="ppm"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", id="wave"),
    ],
)
def test_what_is_no_image_in_a_known_format_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="PNG"):
        from_image(content)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_image_is_unreadable(image_format: str, share: float) -> None:
    content = saved(FOUR, image_format)
    with pytest.raises(UnreadableImageError, match="damaged or incomplete"):
        from_image(content[: int(len(content) * share)])


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_an_animation_is_refused(image_format: str) -> None:
    with pytest.raises(UnreadableImageError, match="still image"):
        from_image(saved(FOUR, image_format, **FRAMES))


def test_a_damaged_animation_is_refused_without_a_warning() -> None:
    with pytest.raises(UnreadableImageError, match="still image"):
        from_image(png(280, 280, (b"acTL", bytes(8))))


def test_a_text_chunk_that_unpacks_to_megabytes_is_refused() -> None:
    bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4_000_000)))
    with pytest.raises(UnreadableImageError, match="damaged"):
        from_image(png(280, 280, bomb))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(png(30_000, 30_000), id="png that Pillow refuses"),
        pytest.param(png(10_000, 10_000), id="png that Pillow warns of"),
        pytest.param(png(MAX_IMAGE_SIDE + 1, 3), id="long png"),
        pytest.param(png(4096, MAX_IMAGE_PIXELS // 4096 + 1), id="one row too many"),
        pytest.param(jpeg(30_000, 30_000), id="jpeg"),
        pytest.param(saved(Image.new("L", (MAX_IMAGE_SIDE + 1, 3)), "WEBP"), id="webp"),
    ],
)
def test_a_huge_image_is_refused_before_it_is_decoded(content: bytes) -> None:
    # None of the PNGs and JPEGs can be decoded: whoever tried would call them damaged.
    with pytest.raises(ImageTooLargeError, match="pixels"):
        from_image(content)


def test_the_largest_image_is_still_read() -> None:
    with pytest.raises(BlankDrawingError):
        from_image(saved(Image.new("1", (MAX_IMAGE_SIDE, MAX_IMAGE_PIXELS // MAX_IMAGE_SIDE))))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x34" * 20, id="entries cut off"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="directory out of reach"),
        pytest.param(b"Exif\0\0MM", id="header cut off"),
        pytest.param(b"Exif\0\0" + b"\xa5" * 64, id="garbage"),
    ],
)
def test_a_drawing_with_damaged_exif_data_is_read_as_it_lies(exif: bytes, image_format: str, four: Pixels) -> None:
    assert difference(from_image(saved(FOUR, image_format, exif=exif)), four) < 1


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_file_never_raises_anything_but_a_drawing_error(image_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    sound, random, refused = saved(FOUR, image_format, exif=exif), np.random.default_rng(0), 0
    for _ in range(200):
        content = bytearray(sound)
        for position in random.integers(0, len(sound), size=3):
            content[position] = random.integers(0, 256)
        try:
            assert from_image(bytes(content)).shape == (28, 28)
        except DrawingError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.new("L", (280, 280), 255), id="white"),
        pytest.param(Image.new("RGB", (280, 280), (200, 30, 90)), id="one colour"),
        pytest.param(Image.new("RGBA", (280, 280)), id="transparent"),
        pytest.param(Image.new("L", (1, 1)), id="one pixel"),
        pytest.param(Image.fromarray(np.eye(1, 280, 140, dtype=np.uint8) * 255), id="one row"),
        pytest.param(Image.fromarray(np.eye(1, 280, 140, dtype=np.uint8).T * 255), id="one column"),
        pytest.param(Image.new("L", (28, 28)), id="28 x 28"),
        pytest.param(Image.fromarray(paper_with((140, 140, 142, 142))), id="a speck"),
        pytest.param(
            Image.fromarray(np.random.default_rng(0).integers(240, 256, (280, 280)).astype(np.uint8)), id="grain"
        ),
    ],
)
def test_a_blank_drawing_is_named_as_such(image: Image.Image) -> None:
    with pytest.raises(BlankDrawingError):
        from_image(saved(image))


def test_ten_megabytes_of_noise_are_blank_paper() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1850, 1850, 3)).astype(np.uint8)
    content = saved(Image.fromarray(noise), compress_level=0)
    assert len(content) > 10_000_000
    with pytest.raises(BlankDrawingError):
        from_image(content)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        pytest.param(np.zeros(784), r"\[784\].*\[H, W\]", id="one row of all"),
        pytest.param(np.zeros((28, 28, 3)), r"\[28, 28, 3\].*\[H, W\]", id="colour"),
        pytest.param(np.full((28, 28), "7"), "numbers", id="text"),
        pytest.param(np.zeros((28, 28), bool), "bool", id="yes and no"),
        pytest.param(np.full((28, 28), None), "object", id="objects"),
        pytest.param(np.full((28, 28), np.nan), "0 to 255", id="not a number"),
        pytest.param(np.full((28, 28), np.inf), "0 to 255", id="infinite"),
        pytest.param(np.full((28, 28), -1), "0 to 255", id="negative"),
        pytest.param(np.full((28, 28), 256), "0 to 255", id="above"),
        pytest.param(np.eye(28), "from 0 to 1, .* 0 to 255", id="from 0 to 1"),
        pytest.param(np.eye(28, dtype=np.uint8), "from 0 to 1, .* 0 to 255", id="0 or 1"),
    ],
)
def test_pixels_that_are_no_gray_levels_are_refused(pixels: NDArray[np.generic], says: str) -> None:
    with pytest.raises(DrawingError, match=says):
        from_pixels(pixels)


def test_too_many_pixels_are_too_large() -> None:
    with pytest.raises(ImageTooLargeError, match="8192"):
        from_pixels(np.zeros((3, MAX_IMAGE_SIDE + 1), np.uint8))


@pytest.mark.parametrize("shape", [(0, 0), (0, 28), (1, 1), (28, 28)])
def test_blank_pixels_are_named_as_such(shape: tuple[int, int]) -> None:
    with pytest.raises(BlankDrawingError):
        from_pixels(np.zeros(shape))


def test_pixels_and_the_image_of_them_give_the_same_form(four: Pixels) -> None:
    np.testing.assert_array_equal(from_pixels(np.asarray(FOUR)), four)
    np.testing.assert_array_equal(from_pixels(np.asarray(FOUR).astype(np.float32)), four)
