"""Bytes of an image file to a picture that stands upright, of 8 bits a band.

DrawingError                what was wrong with the drawing, and what would be right
├── UnreadableImageError    no PNG, JPEG or WebP, a damaged one, or an animation
├── ImageTooLargeError      more pixels than are decoded
└── BlankDrawingError       nothing is drawn
"""

import struct
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_IMAGE_SIDE = 8192  # px
MAX_IMAGE_PIXELS = 2**24  # a photograph of 12 megapixels fits


class DrawingError(ValueError):
    """The drawing cannot be brought into the network's form."""


class UnreadableImageError(DrawingError):
    """The bytes are not one still image in a format that is read here."""


class ImageTooLargeError(DrawingError):
    """The image has more pixels than are decoded."""


class BlankDrawingError(DrawingError):
    """Nothing is drawn."""


class Picture(NamedTuple):
    image: Image.Image  # upright, mode L, RGB or RGBA; a JPEG's may be smaller than what was sent
    width: int  # px of what was sent, upright
    height: int


def decode(image_bytes: bytes, *, side: int = 280) -> Picture:
    """Decodes a PNG, JPEG or WebP file and turns it as its EXIF data say.

    A JPEG shrinks while it is decoded, at a fraction of the cost, as long as its shorter side keeps `side` pixels.
    Raises UnreadableImageError, ImageTooLargeError or, below 3 pixels, BlankDrawingError.
    """
    try:
        return _picture(image_bytes, side)
    except DrawingError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it stumbles over
        raise UnreadableImageError("the image is damaged or incomplete: save it again as PNG") from error


def gray_picture(pixels: NDArray[np.generic]) -> Picture:
    """Takes gray levels, [H, W] from 0 to 255, for a picture. Raises as `gray_levels`."""
    levels = gray_levels(pixels)
    return Picture(Image.fromarray(levels), levels.shape[1], levels.shape[0])


def gray_levels(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Checks and rounds gray levels, [H, W] from 0 to 255.

    Raises DrawingError for another shape or range, ImageTooLargeError or, below 3 pixels, BlankDrawingError.
    """
    if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
        raise DrawingError(f"pixels are {pixels.dtype} {list(pixels.shape)}: send rows of numbers, [H, W]")
    height, width = pixels.shape
    _check_size(width, height)
    most = pixels.max()
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and most <= 255):
        raise DrawingError("a pixel lies outside the gray levels: send numbers from 0 to 255")
    if 0 < most <= 1:  # as PyTorch and Keras have them
        raise BlankDrawingError("nothing is drawn: the gray levels go from 0 to 1, send numbers from 0 to 255")
    levels = np.rint(pixels) if pixels.dtype.kind == "f" else pixels
    return levels.astype(np.uint8)


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skips the resolution, which Pillow reads from the EXIF data, warning where they are damaged."""


# Image.open warns of large images and damaged metadata, and Python silences warnings for all threads at once.
_READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", _Jpeg),
    (b"RIFF", WebPImageFile),
)


def _picture(image_bytes: bytes, side: int) -> Picture:
    image = _open(image_bytes)
    width, height = image.size
    image.draft(None, (side, side))
    image.load()
    orientation = _orientation(image.info.get("exif", b""))
    if orientation in _QUARTER_TURNS:
        width, height = height, width
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    return Picture(_eight_bits(turned), width, height)


def _open(image_bytes: bytes) -> ImageFile:
    reader = next((reader for signature, reader in _READERS if image_bytes.startswith(signature)), None)
    if reader is None:
        raise UnreadableImageError("this is not an image in a known format: send a PNG, JPEG or WebP")
    if reader is PngImageFile and _is_animated_png(image_bytes):
        raise UnreadableImageError("this is an animation: send a still image")
    image = reader(BytesIO(image_bytes))
    _check_size(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImageError("this is an animation: send a still image")
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


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)


def _orientation(exif: bytes) -> int:
    # Read here, since Pillow's reader warns of damaged EXIF data; such an image is taken as upright.
    tiff = exif.removeprefix(b"Exif\0\0")
    order = ">" if tiff.startswith(b"MM") else "<"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
        return Image.fromarray(_high_byte(np.asarray(image)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _high_byte(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    # Scanners and cameras fill 10 or 12 of the 16 bits: where the upper half is unused, the range is stretched.
    least, most = int(levels.min()), int(levels.max())
    if most - least >= 2**15 or most - least < 100:
        return (levels.astype(np.int64) >> 8).astype(np.uint8)
    return np.rint((levels.astype(np.float64) - least) * (255 / (most - least))).astype(np.uint8)
