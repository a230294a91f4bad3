"""Drawings as a person would make them on a canvas of 280 × 280 pixels."""

import io

from PIL import Image, ImageDraw

Stroke = list[tuple[int, int]]

STROKES: dict[int, list[Stroke]] = {
    1: [[(140, 40), (140, 240)]],
    4: [[(90, 50), (70, 150), (200, 150)], [(180, 60), (180, 240)]],
    7: [[(70, 60), (210, 60), (130, 240)]],
}


def draw(digit: int, *, width: int = 22, ink: object = 0, paper: object = 255, mode: str = "L") -> Image.Image:
    image = Image.new(mode, (280, 280), paper)  # type: ignore[arg-type]
    pen = ImageDraw.Draw(image)
    for stroke in STROKES[digit]:
        pen.line(stroke, fill=ink, width=width, joint="curve")  # type: ignore[arg-type]
        for x, y in stroke:
            pen.circle((x, y), width / 2, fill=ink)  # type: ignore[arg-type]
    return image


def encoded(image: Image.Image, image_format: str = "png") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()
