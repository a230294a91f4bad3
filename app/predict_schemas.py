"""The shapes of /predict's requests and answers."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from app.schemas import MODEL_ID, Wire

Fields = dict[str, Any]  # an answer's fields as a plain dict: to build the model takes ten times as long


class LayerActivations(Wire):
    """What one layer of the network makes of a drawing, as small gray images."""

    layer: int = Field(ge=0, description="The layer's place in the network, from 0", examples=[0])
    type: str = Field(description="Its kind", examples=["conv2d"])
    size: int = Field(ge=1, description="How many channels or units it has", examples=[32])
    shape: list[int] = Field(
        min_length=1,
        max_length=3,
        description="Of `values`: [channels, height, width], the first 64 channels; or [units], the first 1024",
        examples=[[32, 12, 12]],
    )
    low: float = Field(description="What 0 in `values` stands for", examples=[0.0])
    high: float = Field(description="What 255 in `values` stands for", examples=[3.7])
    values: str = Field(description="A byte a number, row by row, in base64", examples=["AAAA/w=="])


class Prediction(Wire):
    """Which digit a drawing shows."""

    digit: int = Field(ge=0, le=9, description="The digit named", examples=[7])
    confidence: float = Field(ge=0.0, le=1.0, description="Its probability", examples=[0.98])
    probabilities: list[float] = Field(
        min_length=10,
        max_length=10,
        description="Of each digit, 0 to 9",
        examples=[[0.0] * 7 + [0.98, 0.0, 0.02]],
    )
    is_digit: bool = Field(description="Whether the drawing looks like a digit at all", examples=[True])
    digit_score: float = Field(description="How much it does; 0 and more is a digit", examples=[2.1])
    model: str = Field(description="The model that answered", examples=[MODEL_ID])
    seen: list[list[int]] | None = Field(
        None,
        description="With include=seen: 28 rows of 28 ink values 0–255 that the network saw",
        examples=[[[0] * 28] * 28],
    )
    saliency: list[list[float]] | None = Field(
        None,
        description="With include=saliency: 28 rows of 28 numbers -1 to 1, how much each pixel spoke for the digit "
        "(above 0) or against it; integrated gradients of its logit from a black image, the largest magnitude being 1",
        examples=[[[0.0] * 28] * 28],
    )
    activations: list[LayerActivations] | None = Field(
        None,
        description="With include=activations: what each layer but flatten and dropout makes of the drawing",
    )


class PredictionList(Wire):
    """One prediction for each image of a request that had many, in their order."""

    predictions: list[Prediction] = Field(description="The predictions")


Level = Annotated[float, Field(strict=True)]  # no text that holds a number, and no true
Row = Annotated[list[Level], Field(fail_fast=True)]  # a million bad numbers make one error
Rows = Annotated[list[Row], Field(fail_fast=True)]


class NumberDigit(Prediction):
    """One digit of a number."""

    box: list[int] = Field(
        min_length=4,
        max_length=4,
        description="Where it is drawn: left, top, width and height in pixels of the picture",
        examples=[[12, 8, 40, 62]],
    )


class NumberPrediction(Wire):
    """A number that is drawn in one picture."""

    number: str = Field(description="Its digits from left to right", examples=["2026"])
    digits: list[NumberDigit] = Field(description="Each digit's prediction")


class PredictRequest(Wire):
    """Exactly one of `image`, `pixels` and `images`."""

    image: str | None = Field(
        None,
        description="An image file in base64, or a data URL of one",
        examples=["data:image/png;base64,iVBORw0…"],
    )
    pixels: Rows | None = Field(
        None, description="Rows of gray values 0–255", examples=[[[0, 0, 255], [0, 255, 0], [255, 0, 0]]]
    )
    images: list[str | Rows] | None = Field(
        None,
        min_length=1,
        fail_fast=True,
        description="Many of them, each as in `image` or `pixels`",
        examples=[["data:image/png;base64,iVBORw0…"]],
    )

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of image, pixels and images, not {' and '.join(given) or 'none'}")
        return self
