"""What every peer does with a drawing: the checkout's own preparation, then the same network in PyTorch.

Read by each peer's own interpreter, so it imports nothing of Inkling but `model.drawing`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from model.drawing import from_image, from_pixels

PORT = int(os.environ.get("PEER_PORT", "0"))
PARAMETERS = Path(os.environ.get("PEER_PARAMETERS", ""))
BATCH = 64  # of the peers that batch; as many as Inkling's default
BATCH_WAIT_SECONDS = 0.002  # where a peer asks how long an incomplete batch waits

Answer = dict[str, Any]  # as Inkling's: {"digit": 7, "confidence": 0.99, "probabilities": [10 numbers]}


class Digits:
    """A multilayer perceptron that Inkling has trained; its file names tensors layers.<i>.kernel and .bias."""

    def __init__(self, path: Path = PARAMETERS) -> None:
        tensors = load_file(path)
        indices = sorted(int(name.split(".")[1]) for name in tensors if name.endswith(".kernel"))
        layers: list[torch.nn.Module] = []
        for index in indices:
            layers += [_linear(tensors[f"layers.{index}.kernel"], tensors[f"layers.{index}.bias"]), torch.nn.ReLU()]
        layers[-1] = torch.nn.Softmax(dim=1)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), *layers).eval()

    def of_png(self, png: bytes) -> Answer:
        return self.of_images(from_image(png)[None])[0]

    def of_pixels(self, rows: Sequence[Sequence[float]]) -> Answer:
        return self.of_images(from_pixels(np.array(rows, np.float64))[None])[0]

    def of_images(self, images: NDArray[np.uint8]) -> list[Answer]:
        """images: [N, 28, 28] uint8, ink high."""
        with torch.inference_mode():
            probabilities = self.network(torch.from_numpy(images).float() / 255)  # [N, 10]
        return [
            {"digit": max(range(10), key=row.__getitem__), "confidence": max(row), "probabilities": row}
            for row in probabilities.tolist()
        ]


def _linear(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> torch.nn.Linear:
    """kernel: [N, M]."""
    layer = torch.nn.Linear(*kernel.shape)
    layer.load_state_dict({"weight": torch.from_numpy(kernel.T.copy()), "bias": torch.from_numpy(bias)})
    return layer
