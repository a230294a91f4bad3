"""How many numbers made with a real pen are taken apart into as many digits as they have.

    .venv/bin/python -m benchmarks.segmentation DRAWINGS.npz --count 300

The file is that of benchmarks/recognition.py. A number has 2 to 6 of its drawings in a row, each 70 to 110 pixels high,
up to 12 pixels off the line, 5 to 45 % of its height behind the box of the one before it.
"""

import argparse
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ImageOps

from benchmarks.recognition import Drawing, draw_on, load
from model.decoding import DrawingError
from model.segmentation import segment

HEIGHT = 200  # px


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("drawings", type=Path, help="an .npz file of strokes and labels")
    parser.add_argument("--count", type=int, default=300, help="numbers to draw")
    parser.add_argument("--seed", type=int, default=2, help="0 and 1 are those that the constants were chosen on")
    arguments = parser.parse_args()
    drawings, random = load(arguments.drawings), np.random.default_rng(arguments.seed)
    misses: Counter[tuple[str, int]] = Counter()
    for _ in range(arguments.count):
        chosen = [drawings[index] for index in random.integers(0, len(drawings), random.integers(2, 7))]
        found = count(render(chosen, random))
        if found != len(chosen):
            misses["".join(str(drawing.label) for drawing in chosen), found] += 1
    right = arguments.count - misses.total()
    print(f"right count: {right} of {arguments.count} numbers, {right / arguments.count:.1%}")
    print("\n".join(f"  {number} taken apart into {found}" for number, found in misses))


def count(image_bytes: bytes) -> int:
    try:
        return len(segment(image_bytes))
    except DrawingError:
        return 0


def render(drawings: list[Drawing], random: np.random.Generator) -> bytes:
    """A PNG of the number, black on white."""
    strokes, right = [], 20.0
    for drawing in drawings:
        points = np.concatenate(drawing.strokes)
        low, high = points.min(axis=0), points.max(axis=0)
        height = random.uniform(70, 110)
        scale = height / max(float(high[1] - low[1]), 0.3 * float(high[0] - low[0]), 1e-6)
        top = HEIGHT / 2 + random.uniform(-12, 12) - height / 2
        strokes += [((stroke - (low[0], high[1])) * (scale, -scale) + (right, top)) for stroke in drawing.strokes]
        right += float(high[0] - low[0]) * scale + 8 + random.uniform(0.05, 0.45) * height
    ink = draw_on((round(right) + 20, HEIGHT), strokes, 8)
    buffer = BytesIO()
    ImageOps.invert(ink).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
