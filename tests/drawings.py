"""Drawings as a person would make them on a canvas of 280 × 280 pixels."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Stroke = list[tuple[int, int]]
Pixels = NDArray[np.float64]

STROKES: dict[int, list[Stroke]] = {
    1: [[(140, 40), (140, 240)]],
    4: [[(90, 50), (70, 150), (200, 150)], [(180, 60), (180, 240)]],
    7: [[(70, 60), (210, 60), (130, 240)]],
}


def draw(digit: int, *, width: int = 22, ink: object = 0, paper: object = 255, mode: str = "L") -> Image.Image:
    image = Image.new(mode, (280, 280), paper)
    pen = ImageDraw.Draw(image)
    for stroke in STROKES[digit]:
        pen.line(stroke, fill=ink, width=width, joint="curve")
        for x, y in stroke:
            pen.circle((x, y), width / 2, fill=ink)
    return image


def draw_number(digits: Sequence[int]) -> Image.Image:
    """Each digit in a cell of 280 pixels, 20 pixels from the picture's edges."""
    sheet = Image.new("L", (280 * len(digits) + 40, 320), 255)
    for place, digit in enumerate(digits):
        sheet.paste(draw(digit), (20 + 280 * place, 20))
    return sheet


def encoded(image: Image.Image, image_format: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def likeness(form: Pixels, other: Pixels) -> float:
    """Correlation of two networks' forms, wherever rounding has placed them."""
    moved = [np.roll(form, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(np.corrcoef(each.ravel(), other.ravel())[0, 1]) for each in moved)


LIGHTS = ("even", "gradient", "vignette", "shadow edge", "dim", "lamp spot", "warm")
PENS = {"black": (30, 30, 35), "blue": (35, 60, 160), "red": (190, 40, 45), "green": (30, 120, 70)}
PAPER = (238, 235, 228)
RULED = (150, 175, 215)
PHOTOGRAPH = (480, 640)  # height, width


def photographed(
    drawing: Image.Image,
    *,
    light: str = "even",
    pen: str = "black",
    lines: str = "",
    dust: int = 0,
    table: bool = False,
    quality: int = 85,
    seed: int = 0,
) -> bytes:
    """A JPEG photograph of paper that `drawing`, black on white, is on: `lines` are "ruled" or "squared"."""
    random = np.random.default_rng(seed)
    page = np.full((*PHOTOGRAPH, 3), PAPER, np.float64)
    _draw_lines(page, lines)
    ink = np.zeros(PHOTOGRAPH)
    top, left = random.integers(60, 130), random.integers(120, 240)
    ink[top : top + drawing.height, left : left + drawing.width] = 1 - np.asarray(drawing) / 255
    for y, x in zip(random.integers(5, 475, dust), random.integers(5, 635, dust), strict=True):
        ink[y : y + 4, x : x + 4] = 0.8
    page += ink[..., None] * (np.array(PENS[pen]) - page)
    if table:
        page[:, :40] = (90, 60, 40)
    lit = page * _light(light)[..., None] * ((1, 0.85, 0.6) if light == "warm" else (1, 1, 1))
    grain = random.normal(0, 3, lit.shape)
    return encoded(Image.fromarray(np.clip(lit + grain, 0, 255).astype(np.uint8)), "jpeg", quality=quality)


def _draw_lines(page: Pixels, lines: str) -> None:
    rows, columns = np.mgrid[: page.shape[0], : page.shape[1]]
    slanted = rows + columns * 0.02  # nobody holds a camera straight
    page[slanted % 48 < 3 if lines else slanted < -1] = RULED
    if lines == "squared":
        page[(columns - rows * 0.02) % 48 < 3] = RULED


def _light(light: str) -> Pixels:
    """Of what reaches each point of the page, 0 to 1."""
    rows, columns = np.mgrid[: PHOTOGRAPH[0], : PHOTOGRAPH[1]] / np.array(PHOTOGRAPH)[:, None, None]
    from_centre = (rows - 0.5) ** 2 + (columns - 0.5) ** 2
    return {
        "even": np.ones(PHOTOGRAPH),
        "gradient": 1 - 0.6 * columns,
        "vignette": 1 - 0.9 * from_centre,
        "shadow edge": 1 - 0.45 / (1 + np.exp((columns + 0.3 * rows - 0.65) * 60)),
        "dim": np.full(PHOTOGRAPH, 0.3),
        "lamp spot": 0.35 + 0.65 * np.exp(-((rows - 0.3) ** 2 + (columns - 0.6) ** 2) / 0.12),
        "warm": 1 - 0.3 * rows,
    }[light]
