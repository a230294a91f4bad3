"""BentoML: `bentoml serve benchmarks.serving_peers.bentoml:DigitsService`.

Or BatchingDigitsService, which joins the lists of several requests.
"""

import base64
from typing import Any

import bentoml
import numpy as np

from benchmarks.serving_peers.digits import BATCH, Digits
from model.drawing import from_image, from_pixels


@bentoml.service(workers=1)
class DigitsService:
    def __init__(self) -> None:
        self.digits = Digits()

    @bentoml.api
    def png(self, png: str) -> dict[str, Any]:
        return self.digits.of_png(base64.b64decode(png))

    @bentoml.api
    def pixels(self, pixels: list[list[float]]) -> dict[str, Any]:
        return self.digits.of_pixels(pixels)


@bentoml.service(workers=1)
class BatchingDigitsService:
    def __init__(self) -> None:
        self.digits = Digits()

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def png(self, pngs: list[str]) -> list[dict[str, Any]]:
        return self.digits.of_images(np.stack([from_image(base64.b64decode(png)) for png in pngs]))

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def pixels(self, pixels: list[list[list[float]]]) -> list[dict[str, Any]]:
        return self.digits.of_images(np.stack([from_pixels(np.array(rows)) for rows in pixels]))
