"""What people draw that is no digit: scribbles, letters, next to nothing, several digits; all through model.drawing.

They are drawn as the page's canvas shows them: a round pen on 280 × 280 pixels. The same seed gives the same drawings.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.decoding import BlankDrawingError
from model.drawing import from_pixels

SIDE = 280  # px
SUPERSAMPLING = 2

Canvas = NDArray[np.uint8]  # [280, 280], ink high
Stroke = NDArray[np.float64]  # [P, 2] as x and y in 0..1, y downwards

# Hand-made, on a grid of 4 columns and 6 rows; '~' begins a stroke that is rounded. Left out are those that are drawn
# as a digit is: I l i j O o Q as 1 and 0, S s Z z as 5 and 2, b as 6, g q as 9.
LETTERS = {
    "A": "06 20 46|14 34", "B": "00 06|~00 30 41 32 03|~03 33 44 35 06", "C": "~41 20 02 04 26 45",
    "D": "00 06|~00 30 42 44 36 06", "E": "40 00 06 46|03 33", "F": "40 00 06|03 33",
    "G": "~41 20 02 04 26 45|23 43 46", "H": "00 06|40 46|03 43", "J": "10 40|~30 35 26 05", "K": "00 06|40 03 46",
    "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40", "P": "06 00|~00 30 41 32 03",
    "R": "06 00|~00 30 41 32 03|23 46", "T": "00 40|20 26", "U": "~00 04 16 36 44 40", "V": "00 26 40",
    "W": "00 16 22 36 40", "X": "00 46|40 06", "Y": "00 23 40|23 26", "a": "~42 12 04 16 36 44|42 46",
    "d": "~43 13 04 16 36 44|40 46", "e": "~04 44 33 13 04 16 46", "f": "~40 20 11 16|03 33", "h": "00 06|~04 23 44 46",
    "k": "10 16|42 14 46", "m": "03 06|~03 13 24 26|~24 33 44 46", "n": "02 06|~03 22 44 46",
    "p": "02 06|~02 32 43 34 04", "r": "02 06|~04 22 43", "t": "~20 25 36 46|02 42", "u": "~02 05 26 45 42|42 46",
    "w": "02 16 23 36 42", "x": "02 46|42 06", "y": "02 24|42 06",
}  # fmt: skip


def scribbles(count: int, random: np.random.Generator) -> Iterator[Canvas]:
    kinds = (_wander, _zigzag, _coil, _hatching, _lines)
    for index in range(count):
        yield draw(kinds[index % len(kinds)](random), random)


def letters(count: int, random: np.random.Generator) -> Iterator[Canvas]:
    names = list(LETTERS)
    for index in range(count):
        yield draw(_by_hand(_letter(LETTERS[names[index % len(names)]]), random), random)


def blanks(count: int, random: np.random.Generator) -> Iterator[Canvas]:
    """Nothing at all, the grain of paper, a dot, a smudge, a canvas that is full of ink."""
    kinds = (_nothing, _grain, _dot, _smudge, _full)
    for index in range(count):
        yield kinds[index % len(kinds)](random)


def several(count: int, random: np.random.Generator, digits: NDArray[np.uint8]) -> Iterator[Canvas]:
    """Two or three of the digits beside each other on one canvas; digits: [N, 28, 28] uint8, ink high."""
    for index in range(count):
        chosen = digits[random.choice(len(digits), 2 + index % 2)]
        yield _beside(chosen, random)


def prepared(canvases: Iterator[Canvas]) -> tuple[NDArray[np.uint8], int]:
    """The drawings in the network's form, [N, 28, 28] uint8, and how many more were refused as blank."""
    forms, refused = [], 0
    for canvas in canvases:
        try:
            forms.append(from_pixels(canvas))
        except BlankDrawingError:
            refused += 1
    return np.array(forms, np.uint8).reshape(-1, 28, 28), refused


def draw(strokes: Sequence[Stroke], random: np.random.Generator) -> Canvas:
    """With a pen of 5 to 10 % of the canvas, over 55 to 80 % of it."""
    points = np.concatenate(strokes)
    low, size = points.min(axis=0), np.ptp(points, axis=0).max()
    scale = random.uniform(0.55, 0.8) * SIDE * SUPERSAMPLING / size
    width = random.uniform(0.05, 0.1) * SIDE * SUPERSAMPLING
    centre = SIDE * SUPERSAMPLING / 2 + random.uniform(-20, 20, 2)
    image = Image.new("L", (SIDE * SUPERSAMPLING,) * 2, 0)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        placed = [(float(x), float(y)) for x, y in (stroke - low - np.ptp(points, axis=0) / 2) * scale + centre]
        pen.line(placed, fill=255, width=round(width))
        for x, y in placed:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(image.reduce(SUPERSAMPLING))


def rounded(points: Stroke) -> Stroke:
    """Chaikin's corner cutting (1974), four times, the ends kept."""
    for _ in range(4):
        cut = np.stack([0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]], axis=1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def _letter(description: str) -> list[tuple[bool, Stroke]]:
    """Its strokes, and whether each is rounded."""
    return [
        (stroke.startswith("~"), np.array([[int(x) / 5, int(y) / 6] for x, y in stroke.lstrip("~").split()]))
        for stroke in description.split("|")
    ]


def _by_hand(strokes: list[tuple[bool, Stroke]], random: np.random.Generator) -> list[Stroke]:
    """Each point misses its place; the whole leans, turns and is wide or narrow."""
    angle, lean, wide = random.uniform(-0.17, 0.17), random.uniform(-0.3, 0.3), random.uniform(0.8, 1.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.array([[wide, lean], [0, 1]])
    moved = [
        (smooth, (points + random.normal(0, 0.035, points.shape)) @ (turn @ shape).T) for smooth, points in strokes
    ]
    return [rounded(points) if smooth else points for smooth, points in moved]


def _wander(random: np.random.Generator) -> list[Stroke]:
    """One or two curves through 7 to 15 places anywhere."""
    return [rounded(random.uniform(0, 1, (random.integers(7, 16), 2))) for _ in range(random.integers(1, 3))]


def _zigzag(random: np.random.Generator) -> list[Stroke]:
    turns = random.integers(5, 12)
    along, across = np.linspace(0, 1, turns), np.resize([0.0, 1.0], turns) * random.uniform(0.4, 1.2)
    points = np.stack([along, across], axis=1) + random.normal(0, 0.05, (turns, 2))
    return [points[:, :: random.choice([1, -1])]]


def _coil(random: np.random.Generator) -> list[Stroke]:
    """Two to four turns, round a centre or along a line."""
    angles = np.linspace(0, random.uniform(2, 4) * 2 * np.pi, 120)
    radius = np.linspace(random.uniform(0.05, 1), 1, 120)
    drift = np.outer(np.linspace(0, 1, 120), random.uniform(-3, 3, 2))
    return [np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1) + drift]


def _hatching(random: np.random.Generator) -> list[Stroke]:
    """Three to six lines beside each other, at times crossed."""
    lines = [np.array([[x, 0.0], [x, 1.0]]) for x in np.linspace(0, 1, random.integers(3, 7))]
    if random.random() < 0.5:
        lines += [line[:, ::-1] for line in lines[: random.integers(2, 4)]]
    return [line + random.normal(0, 0.04, line.shape) for line in lines]


def _lines(random: np.random.Generator) -> list[Stroke]:
    """Three to six straight lines anywhere."""
    return [random.uniform(0, 1, (2, 2)) for _ in range(random.integers(3, 7))]


def _nothing(random: np.random.Generator) -> Canvas:
    return np.zeros((SIDE, SIDE), np.uint8)


def _grain(random: np.random.Generator) -> Canvas:
    return random.integers(0, random.integers(2, 60), (SIDE, SIDE)).astype(np.uint8)


def _dot(random: np.random.Generator) -> Canvas:
    place = random.uniform(0.2, 0.8, 2) * SIDE
    return _disc(place, random.uniform(4, 20, 1).repeat(2))


def _smudge(random: np.random.Generator) -> Canvas:
    soft = sum(_disc(random.uniform(100, 180, 2), random.uniform(10, 60, 2)).astype(np.float64) for _ in range(4))
    return (np.asarray(soft) / 4).astype(np.uint8)


def _full(random: np.random.Generator) -> Canvas:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left, bottom, right = random.integers(1, 60, 4)
    canvas[top:-bottom, left:-right] = 255
    return canvas


def _disc(centre: NDArray[np.float64], radii: NDArray[np.float64]) -> Canvas:
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
    return np.where(inside, 255, 0).astype(np.uint8)


def _beside(digits: NDArray[np.uint8], random: np.random.Generator) -> Canvas:
    """Next to each other with a gap of 2 to 12 % of the canvas, a little higher, lower or smaller than the last."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    height = int(0.75 * SIDE / len(digits) * random.uniform(1.0, 1.3))
    left = random.integers(2, 10)
    for digit in digits:
        picture = _cropped(digit)
        tall = max(8, int(height * random.uniform(0.85, 1.0)))
        wide = max(4, round(tall * picture.shape[1] / picture.shape[0]))
        wide = min(wide, (SIDE - 10) // len(digits) - 8)
        scaled = np.asarray(Image.fromarray(picture).resize((wide, tall), Image.Resampling.BILINEAR))
        top = (SIDE - tall) // 2 + random.integers(-10, 11)
        canvas[top : top + tall, left : left + wide] = scaled[:, : SIDE - left]
        left += wide + int(random.uniform(0.02, 0.04 if len(digits) > 2 else 0.12) * SIDE)
    return canvas


def _cropped(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


KINDS: dict[str, Callable[[int, np.random.Generator], Iterator[Canvas]]] = {
    "scribbles": scribbles,
    "letters": letters,
    "blanks": blanks,
}
