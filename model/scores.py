"""How good a network is, as data: what `model.evaluate` computes. Without JAX, for those who only pass it on.

C = 10 classes.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from model.spec_layers import CLASSES


class MeanScores(NamedTuple):
    """Means over a dataset."""

    loss: float
    accuracy: float
    top_k: float | None = None  # where the spec's metrics ask for it
    per_class: tuple[float | None, ...] | None = None  # [C], the same


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class DigitScores(_Report):
    """How well one digit is told from the others."""

    digit: int = Field(description="The digit", examples=[7])
    precision: float = Field(description="Share of the images named so that are it (0 when none was)", examples=[0.98])
    recall: float = Field(description="Share of its images that are named so", examples=[0.97])
    f1: float = Field(description="Harmonic mean of precision and recall", examples=[0.975])
    support: int = Field(description="Its images", examples=[1028])


class CalibrationBin(_Report):
    """The answers whose confidence falls into one tenth of 0..1."""

    confidence: float = Field(description="Their mean confidence (0 when empty)", examples=[0.95])
    accuracy: float = Field(description="Share of them that is right (0 when empty)", examples=[0.94])
    count: int = Field(description="How many they are", examples=[312])


class Calibration(_Report):
    """Whether a confidence of 0.9 is right nine times in ten."""

    expected_calibration_error: float = Field(
        description="Mean over the answers of |confidence - accuracy| of their bin (Guo et al. 2017, eq. 3)",
        examples=[0.004],
    )
    bins: list[CalibrationBin] = Field(description="Ten equal bins from 0 to 1")


class HardImage(_Report):
    """A test image on which the loss is large."""

    index: int = Field(description="Its place in the test set", examples=[1247])
    label: int = Field(description="What it is", examples=[9])
    digit: int = Field(description="What the model names", examples=[5])
    confidence: float = Field(description="Probability that the model gives to its answer", examples=[0.99])
    image: str = Field(description="The 28 × 28 image as a PNG data URL", examples=["data:image/png;base64,iVBORw0…"])


class Evaluation(_Report):
    """A model's full report on the test set."""

    loss: float = Field(description="Mean loss of the training's kind, without dropout", examples=[0.081])
    accuracy: float = Field(description="Share of right answers", examples=[0.9778])
    per_class: list[DigitScores] = Field(description="One entry a digit, 0 to 9")
    confusion_matrix: list[list[int]] = Field(
        description="10 rows of 10 counts: the true digit's row, the named digit's column",
        examples=[[[980 if row == column else 0 for column in range(CLASSES)] for row in range(CLASSES)]],
    )
    calibration: Calibration = Field(description="Whether its confidence can be believed")
    hardest: list[HardImage] = Field(description="The images with the largest loss, largest first")
