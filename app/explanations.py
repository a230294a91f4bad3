"""Why a model named a digit, as /predict answers it: saliency and activations, bounded in size."""

import asyncio
import base64
import math
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineError, InvalidInputError
from app.predict_schemas import Fields, LayerActivations
from app.warm_model import WarmModel
from model.explain import MAX_CHANNELS, MAX_UNITS, LayerOutput, activations, saliency
from model.spec import TrainSpec
from model.spec_layers import Dropout, Flatten, Shape, layer_shapes

MAX_EXPLAINED_IMAGES = 16
MAX_ACTIVATIONS = 4_000_000  # in one answer, each a byte in base64; no network has more for one image
_DECIMALS = 3
_SAME_NUMBERS = (Dropout, Flatten)  # as the layer before has
_POOL = ThreadPoolExecutor(1, "explain")  # each is as much work as 32 predictions, which are to have room as well


async def explain(
    warm: WarmModel,
    images: Sequence[NDArray[np.uint8]],
    predictions: Sequence[Fields],
    include: Collection[str],
    deadline: float,
) -> list[Fields]:
    """The predictions with those of the fields `saliency` and `activations` that are to be included.

    images: at most 16, each [28, 28] uint8, ink high; predictions: what warm made of them; deadline: by
    time.monotonic(). Raises DeadlineError when it has come before their turn, and InvalidInputError for more
    activations than an answer may have. A model's first explanation compiles its network.
    """
    if "activations" in include:
        _check_size(warm.spec, len(images))
    asked = time.monotonic()

    def explained() -> list[Fields]:
        if time.monotonic() > deadline:
            raise DeadlineError(time.monotonic() - asked)
        digits = np.array([prediction["digit"] for prediction in predictions])
        fields = explanations(warm, np.stack(images), digits, include)
        return [{**one, **field} for one, field in zip(predictions, fields, strict=True)]

    return await asyncio.get_running_loop().run_in_executor(_POOL, explained)


def explanations(
    warm: WarmModel, images: NDArray[np.uint8], digits: NDArray[np.integer], include: Collection[str]
) -> list[Fields]:
    """For each image, what is to be included of `saliency` and `activations`. Blocks.

    images: [N, 28, 28] uint8, ink high; digits: [N], what the model named them.
    """
    fields: list[Fields] = [{} for _ in images]
    if "saliency" in include:
        for field, attributions in zip(fields, _saliency(warm, images, digits), strict=True):
            field["saliency"] = attributions
    if "activations" in include:
        for field, image in zip(fields, images, strict=True):
            field["activations"] = _activations(warm, image)
    return fields


def _check_size(spec: TrainSpec, images: int) -> None:
    """Before any of them is computed."""
    numbers = sum(
        _given(row.output_shape) for row in layer_shapes(spec.network) if not isinstance(row.layer, _SAME_NUMBERS)
    )
    if images * numbers > MAX_ACTIVATIONS:
        reason = (
            f"{images} images with {numbers:,} activations each; at most {MAX_ACTIVATIONS:,} are given in one answer"
        )
        raise InvalidInputError(f"{reason}, those of {MAX_ACTIVATIONS // numbers} images", "query", "include")


def _given(shape: Shape) -> int:
    """How many of a layer's numbers are given."""
    return min(shape[0], MAX_UNITS) if len(shape) == 1 else math.prod(shape[:-1]) * min(shape[-1], MAX_CHANNELS)


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
