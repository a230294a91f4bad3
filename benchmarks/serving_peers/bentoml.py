"""BentoML: `bentoml serve serving_peers.bentoml:DigitsService`."""

import base64
from typing import Any

import bentoml

from serving_peers.digits import Digits


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
