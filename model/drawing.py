"""Brings a drawing into the form the network was trained on.

Image bytes or gray levels go in; MNIST's form comes out: [28, 28] uint8, ink high, the digit's longer side
20 pixels and its centre of mass on pixel (14, 14), as LeCun et al. made MNIST (yann.lecun.com/exdb/mnist).

    DrawingError                what was wrong with the drawing, and what would be right
    ├── UnreadableImageError    no PNG, JPEG or WebP, a damaged one, or an animation
    ├── ImageTooLargeError      more pixels than are decoded
    └── BlankDrawingError       nothing is drawn
"""

import math
import struct
from functools import reduce
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_IMAGE_SIDE = 8192  # px
MAX_IMAGE_PIXELS = 2**24  # a photograph of 12 megapixels fits

PREPARATION = "mnist-form-1"  # kept with each model; a change to the bytes that come out wants a new number

FORM_SIDE = 28
FORM_CENTRE = 14
DIGIT_SIDE = 20
FULL_INK = 255
FAINTEST_INK = 24  # a peak below this is the grain of paper or of JPEG
THINNEST_PEN = 0.09  # of the digit's longer side; 19 of 20 MNIST digits are drawn with a thicker one

Ink = NDArray[np.uint8]


class DrawingError(ValueError):
    """The drawing cannot be brought into the network's form."""


class UnreadableImageError(DrawingError):
    """The bytes are not one still image in a format that is read here."""


class ImageTooLargeError(DrawingError):
    """The image has more pixels than are decoded."""


class BlankDrawingError(DrawingError):
    """Nothing is drawn."""


def from_image(image_bytes: bytes) -> Ink:
    """Brings the drawing in a PNG, JPEG or WebP file into the network's form, [28, 28] uint8, ink high.

    Ink is what differs from the border, in brightness, colour or opacity: any pen on any paper will do.
    A digit that has the form already comes back as it is, byte for byte.
    Raises UnreadableImageError, ImageTooLargeError or BlankDrawingError.
    """
    return _network_form(_ink(_decode(image_bytes)))


def from_pixels(pixels: NDArray[np.generic]) -> Ink:
    """Brings gray levels, [H, W] from 0 to 255, into the network's form, [28, 28] uint8, ink high.

    Raises DrawingError for another shape or range, ImageTooLargeError or BlankDrawingError.
    """
    return _network_form(_ink(_picture(pixels)))


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skips the resolution, which Pillow reads from the EXIF data, warning where they are damaged."""


# Image.open warns of large images and damaged metadata, and Python silences warnings for all threads at once.
READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", _Jpeg),
    (b"RIFF", WebPImageFile),
)


def _decode(image_bytes: bytes) -> Image.Image:
    try:
        return _eight_bits(_upright(_load(image_bytes)))
    except DrawingError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it stumbles over
        raise UnreadableImageError("the image is damaged or incomplete: save it again as PNG") from error


def _load(image_bytes: bytes) -> Image.Image:
    reader = next((reader for signature, reader in READERS if image_bytes.startswith(signature)), None)
    if reader is None:
        raise UnreadableImageError("this is not an image in a known format: send a PNG, JPEG or WebP")
    if reader is PngImageFile and _is_animated_png(image_bytes):
        raise UnreadableImageError("this is an animation: send a still image")
    image = reader(BytesIO(image_bytes))
    _check_size(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImageError("this is an animation: send a still image")
    image.draft(None, (280, 280))  # a JPEG shrinks while it is decoded, at a fraction of the cost
    image.load()
    return image


def _is_animated_png(image_bytes: bytes) -> bool:
    # Looked up before Pillow does, which warns where the announcement of an animation is damaged.
    position = 8
    while position + 8 <= len(image_bytes):
        length, kind = struct.unpack_from(">I4s", image_bytes, position)
        if kind == b"acTL":
            return True
        position += 12 + length
    return False


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_IMAGE_SIDE or width * height > MAX_IMAGE_PIXELS:
        limit = f"at most {MAX_IMAGE_SIDE} pixels a side and {MAX_IMAGE_PIXELS:,} in all"
        raise ImageTooLargeError(f"the image has {width} x {height} pixels: send {limit}")
    if min(width, height) < 3:
        raise BlankDrawingError(f"an image of {width} x {height} pixels has no room for a digit in a border")


ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(image.info.get("exif", b"")))
    return image if turn is None else image.transpose(turn)


def _orientation(exif: bytes) -> int:
    # Read here, since Pillow's reader warns of damaged EXIF data; such an image is taken as upright.
    tiff = exif.removeprefix(b"Exif\0\0")
    order = ">" if tiff.startswith(b"MM") else "<"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _picture(pixels: NDArray[np.generic]) -> Image.Image:
    if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
        raise DrawingError(f"pixels are {pixels.dtype} {list(pixels.shape)}: send rows of numbers, [H, W]")
    height, width = pixels.shape
    _check_size(width, height)
    if not np.all((pixels >= 0) & (pixels <= 255)):  # type: ignore[operator]
        raise DrawingError("a pixel lies outside the gray levels: send numbers from 0 to 255")
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _ink(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return _distance_from_paper(_coarse(image))
    opacity = _coarse(image.getchannel("A"))
    if _paper(opacity) < 128:
        return _distance_from_paper(opacity)
    return ImageChops.multiply(_distance_from_paper(_coarse(image.convert("RGB"))), opacity)


def _coarse(image: Image.Image) -> Image.Image:
    # Averaged to 140–280 px, specks and grain fade while strokes stay.
    return image.reduce(max(1, max(image.size) // 140))


def _distance_from_paper(image: Image.Image) -> Image.Image:
    distances = (ImageChops.difference(band, Image.new("L", band.size, _paper(band))) for band in image.split())
    return reduce(ImageChops.lighter, distances)


def _paper(band: Image.Image) -> int:
    levels = np.asarray(band)
    border = np.concatenate([levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1]])
    return int(np.median(border))


def _network_form(ink: Image.Image) -> Ink:
    if _has_network_form(ink):
        return np.array(ink)
    return _centred(_stretched(_scaled(_thickened(_digit(ink)))))


def _has_network_form(ink: Image.Image) -> bool:
    if ink.size != (FORM_SIDE, FORM_SIDE):
        return False
    pixels = np.asarray(ink)
    left, top, right, bottom = ink.getbbox() or (0, 0, FORM_SIDE, FORM_SIDE)
    if max(right - left, bottom - top) > DIGIT_SIDE or pixels.max() < 250:  # MNIST's peaks are 254 and 255
        return False
    off_centre = max(abs(FORM_CENTRE - coordinate) for coordinate in _centre_of_mass(pixels))
    return off_centre <= 0.6  # 0.52 in MNIST, which is shifted by whole pixels


def _digit(ink: Image.Image) -> Image.Image:
    faintest = _otsu_threshold(ink)
    digit = ink.point([0] * faintest + list(range(faintest, 256)))
    digit = digit.crop(digit.getbbox())
    if np.asarray(digit).max() < FAINTEST_INK or max(digit.size) < 3:
        raise BlankDrawingError("nothing is drawn: draw a digit that stands out from its background")
    return digit


def _otsu_threshold(ink: Image.Image) -> int:
    # Otsu, A Threshold Selection Method from Gray-Level Histograms (1979), eq. 18: the least level of ink.
    counts = np.array(ink.histogram(), np.float64)
    paper, shade = counts.cumsum(), (counts * np.arange(256)).cumsum()
    apart = (shade[-1] * paper - paper[-1] * shade) ** 2
    return int((apart / np.maximum(paper * (paper[-1] - paper), 1)).argmax()) + 1


def _thickened(digit: Image.Image) -> Image.Image:
    # A hairline all but vanishes at 20 px, and the network has seen none.
    missing = THINNEST_PEN * max(digit.size) - _pen_width(digit)
    return _dilated(digit, max(0, round(missing)))


def _pen_width(digit: Image.Image) -> float:
    # Area over half the outline; an outline followed along the grid is 4/π times too long on average.
    levels = np.asarray(ImageOps.expand(digit, 1)).astype(np.int16)
    outline = np.abs(np.diff(levels, axis=0)).sum() + np.abs(np.diff(levels, axis=1)).sum()
    return float(levels.sum() / (outline / 2) * 4 / math.pi)


def _dilated(digit: Image.Image, pixels: int) -> Image.Image:
    # Steps that double reach as far as a maximum filter, 30 times sooner than Pillow's.
    digit = digit.crop((0, 0, digit.width + pixels, digit.height + pixels))
    for right, down in ((1, 0), (0, 1)):
        reach = 0
        while reach < pixels:
            step = min(reach + 1, pixels - reach)
            digit = ImageChops.lighter(digit, ImageChops.offset(digit, step * right, step * down))
            reach += step
    return digit


def _scaled(digit: Image.Image) -> Image.Image:
    scale = DIGIT_SIDE / max(digit.size)
    size = (max(1, round(digit.width * scale)), max(1, round(digit.height * scale)))
    if scale > 0.5 and scale != 1:  # too few pixels to average: doubled, they give smoother strokes
        digit = digit.resize((2 * digit.width, 2 * digit.height), Image.Resampling.BILINEAR)
    return digit.resize(size, Image.Resampling.BOX)


def _stretched(digit: Image.Image) -> Ink:
    levels: Ink = np.asarray(digit)
    stretched: Ink = np.rint(levels * (FULL_INK / levels.max())).astype(np.uint8)
    return stretched


def _centred(digit: Ink) -> Ink:
    form = np.zeros((FORM_SIDE, FORM_SIDE), np.uint8)
    (height, width), (y, x) = digit.shape, _centre_of_mass(digit)
    top = min(max(round(FORM_CENTRE - y), 0), FORM_SIDE - height)  # lopsided ink stays whole
    left = min(max(round(FORM_CENTRE - x), 0), FORM_SIDE - width)
    form[top : top + height, left : left + width] = digit
    return form


def _centre_of_mass(ink: Ink) -> tuple[float, float]:
    weights = ink.astype(np.float64)
    y = weights.sum(axis=1) @ np.arange(ink.shape[0]) / weights.sum()
    x = weights.sum(axis=0) @ np.arange(ink.shape[1]) / weights.sum()
    return float(y), float(x)
