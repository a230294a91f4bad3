"""How long it takes to bring a canvas into the network's form, with and without its decoding.

    .venv/bin/python -m benchmarks.preparation --count 1000

Each row is one picture of the same drawing; microseconds are the median and the least of `--count` turns. `sub` is
a PNG whose rows are filtered as Chromium's canvas does; the others are Pillow's, whose filters take longer to undo.
"""

import argparse
import struct
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from time import perf_counter

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from model.decoding import decode
from model.drawing import from_image, from_pixels, network_form
from model.ink import ink_of
from model.segmentation import segment

SIDE = 280  # px


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="turns of each")
    count = parser.parse_args().count
    print(f"{'':24}{'all':>14}{'decoding':>14}{'preparation':>14}   µs, median (least), n = {count}")
    for name, image_bytes in pictures():
        image = decode(image_bytes).image
        everything = seconds(lambda image_bytes=image_bytes: from_image(image_bytes), count)
        decoding = seconds(lambda image_bytes=image_bytes: decode(image_bytes), count)
        preparing = seconds(lambda image=image: prepared(image), count)
        print(f"{name:24}" + "".join(f"{spread(times):>14}" for times in (everything, decoding, preparing)))
    pixels = np.asarray(ImageOps.invert(drawing()))
    print(f"{'pixels [280, 280]':24}{spread(seconds(lambda: from_pixels(pixels), count)):>14}")
    print(f"{'segmentation, one digit':24}{spread(seconds(lambda: segment(png(drawing())), count)):>14}")


def drawing() -> Image.Image:
    """A four, white on black."""
    image = Image.new("L", (4 * SIDE, 4 * SIDE), 0)
    pen = ImageDraw.Draw(image)
    for stroke in ([(360, 200), (280, 600), (800, 600)], [(720, 240), (720, 960)]):
        pen.line(stroke, fill=255, width=90, joint="curve")
    return image.reduce(4)


def pictures() -> Iterable[tuple[str, bytes]]:
    ink = drawing()
    page, black = ImageOps.invert(ink), Image.new("L", ink.size, 0)
    yield "280 RGBA, opaque, sub", png_filtered(page.convert("RGBA"))
    yield "280 RGBA, opaque", png(page.convert("RGBA"))
    yield "280 RGBA, transparent", png(Image.merge("RGBA", (black, black, black, ink)))
    yield "280 RGB", png(page.convert("RGB"))
    yield "280 gray", png(page)
    yield "112 gray", png(page.resize((112, 112), Image.Resampling.BOX))


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png_filtered(image: Image.Image) -> bytes:
    """An RGBA PNG whose every row says how much a pixel differs from the one on its left."""
    levels = np.asarray(image)
    steps = np.diff(levels, axis=1, prepend=np.zeros_like(levels[:, :1])).reshape(len(levels), -1)
    rows = np.pad(steps, ((0, 0), (1, 0)), constant_values=1).tobytes()
    header = struct.pack(">IIBBBBB", *image.size, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 3)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def prepared(image: Image.Image) -> np.ndarray:
    return network_form(ink_of(image))


def seconds(work: Callable[[], object], count: int) -> list[float]:
    def turn() -> float:
        start = perf_counter()
        work()
        return perf_counter() - start

    return [turn() for _ in range(count)]


def spread(times: list[float]) -> str:
    return f"{np.median(times) * 1e6:.0f} ({min(times) * 1e6:.0f})"


if __name__ == "__main__":
    main()
