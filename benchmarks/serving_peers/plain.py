"""What one writes without a serving system: a FastAPI route that calls a PyTorch network."""

from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from benchmarks.serving_peers.digits import PORT, Digits

app = FastAPI()
digits = Digits()


class Pixels(BaseModel):
    pixels: list[list[float]]


@app.post("/png")
async def predict_png(request: Request) -> dict[str, Any]:
    return digits.of_png(await request.body())


@app.post("/pixels")
async def predict_pixels(body: Pixels) -> dict[str, Any]:
    return digits.of_pixels(body.pixels)


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_config=None, access_log=False)
