"""How many drawings made with a real pen a running service recognises.

    .venv/bin/python -m benchmarks.recognition DRAWINGS.npz --url http://127.0.0.1:8000 --model default

Each drawing is rendered as the page's canvas would show it and sent to POST /predict as a PNG. In the file,
`points` [P, 2] have y upwards; stroke j is points[stroke_offsets[j]:stroke_offsets[j + 1]], drawing i is
strokes drawing_offsets[i]:drawing_offsets[i + 1] and shows the digit labels[i].
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from model.data import Dataset
from model.drawing import from_pixels

CANVAS_SIDE = 280  # px
PEN_WIDTH = 0.08  # of the canvas
SUPERSAMPLING = 4
SENDERS = 4

Stroke = NDArray[np.float32]  # [P, 2], y upwards


class Drawing(NamedTuple):
    strokes: list[Stroke]
    label: int


class Answer(NamedTuple):
    digit: int | None  # None where the service saw no drawing
    model: str | None


def main() -> None:
    arguments = parse_arguments()
    drawings = load(arguments.drawings)
    images = [
        render(place(drawing.strokes, np.random.default_rng(index)), arguments.paper)
        for index, drawing in enumerate(drawings)
    ]
    answers = send(images, arguments.url, arguments.model)
    print(f"{arguments.url}, model {next((answer.model for answer in answers if answer.model), 'unknown')}")
    print("\n".join(report([drawing.label for drawing in drawings], [answer.digit for answer in answers])))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("drawings", type=Path, help="an .npz file of strokes and labels")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the running service")
    parser.add_argument("--model", default="default", help="a model's id or alias")
    parser.add_argument("--paper", choices=("white", "transparent"), default="white", help="of the canvas")
    return parser.parse_args()


def load(path: Path) -> list[Drawing]:
    file = np.load(path)
    strokes = np.split(file["points"], file["stroke_offsets"][1:-1])
    bounds = file["drawing_offsets"]
    return [
        Drawing(strokes[start:stop], int(label))
        for start, stop, label in zip(bounds[:-1], bounds[1:], file["labels"], strict=True)
    ]


def prepare(path: Path) -> Dataset:
    """What a service would show its network of each drawing in the file."""
    drawings = load(path)
    placed = [place(drawing.strokes, np.random.default_rng(index)) for index, drawing in enumerate(drawings)]
    images = np.stack([from_pixels(np.asarray(draw(strokes))) for strokes in placed])
    return Dataset(images, np.array([drawing.label for drawing in drawings], np.uint8))


def place(strokes: Sequence[Stroke], random: np.random.Generator) -> list[Stroke]:
    """As a person might draw them: over 60 to 80 % of the canvas, up to 10 px off its centre, y downwards."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = random.uniform(0.6, 0.8) * CANVAS_SIDE / max(float((high - low).max()), 1e-6)
    centre = CANVAS_SIDE / 2 + random.uniform(-10, 10, size=2)
    return [(stroke - (low + high) / 2) * (scale, -scale) + centre for stroke in strokes]


def render(strokes: Iterable[Stroke], paper: str) -> bytes:
    """A PNG of the canvas: black strokes with round caps and joins, on white or on a transparent canvas."""
    ink = draw(strokes)
    black = Image.new("L", ink.size, 0)
    on_glass = Image.merge("LA", (black, ink)).convert("RGBA")
    image = on_glass if paper == "transparent" else ImageOps.invert(ink)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def draw(strokes: Iterable[Stroke]) -> Image.Image:
    return draw_on((CANVAS_SIDE, CANVAS_SIDE), strokes, PEN_WIDTH * CANVAS_SIDE)


def draw_on(size: tuple[int, int], strokes: Iterable[Stroke], pen_width: float) -> Image.Image:
    """White ink on black. size: width and height of the canvas in pixels."""
    image = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), 0)
    pen, width = ImageDraw.Draw(image), pen_width * SUPERSAMPLING
    for stroke in strokes:
        points = [(float(x), float(y)) for x, y in stroke * SUPERSAMPLING]
        pen.line(points, fill=255, width=round(width))
        for point in points:
            pen.circle(point, width / 2, fill=255)
    return image.reduce(SUPERSAMPLING)


def send(images: Iterable[bytes], url: str, model: str) -> list[Answer]:
    client = httpx.Client(base_url=url, params={"model": model}, timeout=60)
    with client, ThreadPoolExecutor(SENDERS) as senders:
        return list(senders.map(lambda image: ask(client, image), images))


def ask(client: httpx.Client, image: bytes) -> Answer:
    response = client.post("/predict", content=image, headers={"Content-Type": "image/png"})
    if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        return Answer(None, None)
    prediction = response.raise_for_status().json()
    return Answer(prediction["digit"], prediction["model"])


def report(labels: Sequence[int], digits: Sequence[int | None]) -> Iterable[str]:
    right = [digit == label for label, digit in zip(labels, digits, strict=True)]
    accuracy = float(np.mean(right))
    margin = 1.96 * (accuracy * (1 - accuracy) / len(right)) ** 0.5
    yield f"accuracy {accuracy:.2%} ± {margin:.2%} (95 %), n = {len(right)}, refused {digits.count(None)}"
    for label in sorted(set(labels)):
        mine = [hit for hit, its_label in zip(right, labels, strict=True) if its_label == label]
        yield f"  {label}: recall {np.mean(mine):.2%}, n = {len(mine)}"
    misses = Counter((label, digit) for label, digit in zip(labels, digits, strict=True) if digit != label)
    for (label, digit), count in misses.most_common(10):
        yield f"  {label} taken for {digit}: {count}"


if __name__ == "__main__":
    main()
