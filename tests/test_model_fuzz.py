"""Whatever bytes are sent as an image: the network's form of it or a DrawingError, soon and without a warning.

Here a few hundred of each kind, the same at every run; INKLING_FUZZ_EXAMPLES=100000 tries as many, others each time.
"""

import os
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from model.decoding import DrawingError
from model.drawing import from_image, from_pixels
from tests.drawings import draw
from tests.png import SIGNATURE, chunks_of, png_of

EXAMPLES = int(os.environ.get("INKLING_FUZZ_EXAMPLES", "0"))
LONGEST_SECONDS = 5.0  # the largest image that is decoded takes a second on a busy machine
MODES = {"png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "jpeg": ("L", "RGB", "CMYK"), "webp": ("RGB", "RGBA")}
CHUNK_KINDS = "IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP tEXt zTXt iTXt bKGD pHYs sBIT hIST tIME eXIf acTL fcTL fdAT"

many = settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,  # `check` has one that a first call's imports do not count against
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    return image.convert(mode)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SEVEN = draw(7).resize((56, 56))  # small, so that many a mutation hits something
SEVENS = {
    **{(kind, mode): saved(in_mode(SEVEN, mode), kind) for kind, modes in MODES.items() for mode in modes},
    **{(kind, "turned"): saved(SEVEN.convert("RGB"), kind, exif=turned()) for kind in MODES},
    ("jpeg", "progressive"): saved(SEVEN, "jpeg", progressive=True),
    ("webp", "lossless"): saved(SEVEN.convert("RGB"), "webp", lossless=True),
}
sevens = st.sampled_from(list(SEVENS.values()))
pngs = st.sampled_from([content for (kind, _), content in SEVENS.items() if kind == "png"])


def check(prepare: Callable[[Any], NDArray[np.uint8]], given: Any) -> None:
    """`from_image` takes an exception of a decoder for damage, so warnings are counted instead of raised."""
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned, suppress(DrawingError):
        warnings.simplefilter("always")
        form = prepare(given)
        assert (form.shape, form.dtype) == ((28, 28), np.uint8)
    assert [str(warning.message) for warning in warned] == []
    assert time.perf_counter() - started < LONGEST_SECONDS


@pytest.mark.parametrize("image", SEVENS, ids="-".join)
def test_what_is_mutated_below_is_a_drawing(image: tuple[str, str]) -> None:
    assert from_image(SEVENS[image]).max() > 200


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """An image with some bytes changed, taken out, put in or repeated."""
    content = bytearray(draw(sevens))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(start + 40, len(content))))
        repeated = bytes(content[start:end]) * draw(st.integers(0, 3))
        content[start:end] = draw(st.binary(max_size=8) | st.just(repeated))
    return bytes(content)


@many
@given(edited())
def test_an_edited_image(content: bytes) -> None:
    check(from_image, content)


@many
@given(sevens, st.floats(0, 1), sevens, st.floats(0, 1))
def test_the_head_of_an_image_and_the_tail_of_another(head: bytes, upto: float, tail: bytes, since: float) -> None:
    check(from_image, head[: int(upto * len(head))] + tail[int(since * len(tail)) :])


@many
@given(st.sampled_from([SIGNATURE, b"\xff\xd8\xff", b"RIFF", b"RIFF\x40\0\0\0WEBPVP8 ", b""]), st.binary())
def test_noise_behind_a_signature(signature: bytes, noise: bytes) -> None:
    check(from_image, signature + noise)


headers = st.builds(
    struct.Struct(">IIBBBBB").pack,
    *[st.sampled_from([0, 1, 2, 3, 28, 56, 57, 8192, 8193, 2**31 - 1, 2**32 - 1]) | st.integers(0, 300)] * 2,
    st.sampled_from([1, 2, 4, 8, 16]) | st.integers(0, 255),
    st.sampled_from([0, 2, 3, 4, 6]) | st.integers(0, 255),
    *[st.integers(0, 2)] * 3,
)


@st.composite
def rebuilt(draw: st.DrawFn) -> bytes:
    """A PNG whose chunks were changed, moved or added to, and then checksummed again, so that they are believed."""
    chunks = chunks_of(draw(pngs))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(chunks)))
        kind = draw(st.sampled_from(CHUNK_KINDS.split())).encode()
        data = draw(st.binary(max_size=64) | st.just(zlib.compress(draw(st.binary(max_size=64)))))
        taken = draw(st.integers(0, 1))
        chunks[place : place + taken] = [(kind, data)] * draw(st.integers(0, 2))
    if draw(st.booleans()):
        chunks = [(kind, draw(headers) if kind == b"IHDR" else data) for kind, data in chunks]
    return png_of(chunks)


@many
@given(rebuilt())
def test_a_png_with_other_chunks(content: bytes) -> None:
    check(from_image, content)


@many
@given(pngs, st.binary(min_size=1, max_size=64), st.floats(0, 1), st.integers(0, 9))
def test_a_png_with_other_rows(png: bytes, rows: bytes, place: float, level: int) -> None:
    """Right up to its compressed data, which are of another length or name filters that do not exist."""
    chunks = chunks_of(png)
    raw = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    start = int(place * len(raw))
    data = zlib.compress(raw[:start] + rows + raw[start + len(rows) :], level)
    check(from_image, png_of([(kind, data if kind == b"IDAT" else old) for kind, old in chunks]))


@many
@given(st.sampled_from([*MODES]), st.binary(max_size=100), st.sampled_from([b"", b"Exif\0\0", b"MM\0*", b"II*\0"]))
def test_any_bytes_as_exif_data(image_format: str, exif: bytes, start: bytes) -> None:
    check(from_image, saved(SEVEN.convert("RGB"), image_format, exif=start + exif))


shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40)
numbers = st.sampled_from([np.uint8, np.uint16, np.int64, np.float16, np.float64, np.bool_])


@many
@given(arrays.arrays(numbers, shapes) | arrays.arrays(np.uint8, st.tuples(*[st.integers(0, 40)] * 2)))
def test_any_array_as_pixels(pixels: NDArray[Any]) -> None:
    check(from_pixels, pixels)
