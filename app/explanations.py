"""Why a model named a digit, as /predict answers it: saliency and activations, bounded in size."""

import asyncio
import base64
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineError
from app.predictions import LayerActivations, Prediction
from app.warm import WarmModel
from model.explain import LayerOutput, activations, saliency
from model.spec_layers import Dropout, Flatten

MAX_EXPLAINED_IMAGES = 16
_DECIMALS = 3
_SAME_NUMBERS = (Dropout, Flatten)  # as the layer before has
_POOL = ThreadPoolExecutor(1, "explain")  # each is as much work as 32 predictions, which are to have room as well


async def explain(
    warm: WarmModel,
    images: Sequence[NDArray[np.uint8]],
    predictions: Sequence[Prediction],
    include: Collection[str],
    deadline: float,
) -> list[Prediction]:
    """The predictions with those of the fields `saliency` and `activations` that are to be included.

    images: at most 16, each [28, 28] uint8, ink high; predictions: what warm made of them; deadline: by
    time.monotonic(). Raises DeadlineError when it has come before their turn. A model's first explanation compiles
    its network.
    """
    asked = time.monotonic()

    def explained() -> list[Prediction]:
        if time.monotonic() > deadline:
            raise DeadlineError(time.monotonic() - asked)
        digits = np.array([prediction.digit for prediction in predictions])
        fields = explanations(warm, np.stack(images), digits, include)
        return [one.model_copy(update=field) for one, field in zip(predictions, fields, strict=True)]

    return await asyncio.get_running_loop().run_in_executor(_POOL, explained)


def explanations(
    warm: WarmModel, images: NDArray[np.uint8], digits: NDArray[np.integer], include: Collection[str]
) -> list[dict[str, Any]]:
    """For each image, what is to be included of `saliency` and `activations`. Blocks.

    images: [N, 28, 28] uint8, ink high; digits: [N], what the model named them.
    """
    fields: list[dict[str, Any]] = [{} for _ in images]
    if "saliency" in include:
        for field, attributions in zip(fields, _saliency(warm, images, digits), strict=True):
            field["saliency"] = attributions
    if "activations" in include:
        for field, image in zip(fields, images, strict=True):
            field["activations"] = _activations(warm, image)
    return fields


def _saliency(warm: WarmModel, images: NDArray[np.uint8], digits: NDArray[np.integer]) -> list[list[list[float]]]:
    """28 rows of 28 numbers for each image, its largest magnitude being 1."""
    attributions = np.nan_to_num(saliency(warm.parameters, images, digits, spec=warm.spec)).astype(np.float64)
    largest = np.abs(attributions).max(axis=(1, 2), keepdims=True)
    return (attributions / np.where(largest == 0, 1, largest)).round(_DECIMALS).tolist()


def _activations(warm: WarmModel, image: NDArray[np.uint8]) -> list[LayerActivations]:
    outputs = activations(warm.parameters, image, spec=warm.spec)
    return [
        _layer_activations(index, output)
        for index, (layer, output) in enumerate(zip(warm.spec.network, outputs, strict=True))
        if not isinstance(layer, _SAME_NUMBERS)
    ]


def _layer_activations(index: int, output: LayerOutput) -> LayerActivations:
    values = np.nan_to_num(output.values).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    gray = np.rint((values - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
    return LayerActivations(
        layer=index,
        type=output.type,
        size=output.size,
        shape=list(values.shape),
        low=low,
        high=high,
        values=base64.b64encode(gray.tobytes()).decode(),
    )
