"""The drawings that every server is asked about: MNIST's test digits, as a canvas sends them and as bare pixels."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.drawing import from_image

Rows = list[list[int]]


class Drawing(NamedTuple):
    """The same digit twice: a file, dark on white, and the network's form [28, 28] of it, ink high."""

    png: bytes
    pixels: Rows


def drawings(images: NDArray[np.uint8], side: int) -> list[Drawing]:
    """images: [N, 28, 28] uint8; side: of the files, in px."""
    return [_drawing(image, side) for image in images]


def _drawing(image: NDArray[np.uint8], side: int) -> Drawing:
    canvas = Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    canvas.save(buffer, "png")
    png = buffer.getvalue()
    return Drawing(png, from_image(png).tolist())


def named_by(tensors: dict[str, NDArray[np.float32]], drawings: Sequence[Drawing]) -> list[int]:
    """What the multilayer perceptron of `digits.py` says to each, computed in NumPy: what every server must answer."""
    activations = np.array([drawing.pixels for drawing in drawings], np.float32).reshape(len(drawings), -1) / 255
    for name in sorted(name for name in tensors if name.endswith(".kernel")):
        logits = activations @ tensors[name] + tensors[name.replace("kernel", "bias")]
        activations = np.maximum(logits, 0)
    return [int(digit) for digit in logits.argmax(axis=1)]
