"""How training images are varied, so that a network learns what a digit is and not where it stands."""

from typing import Self

from pydantic import Field, model_validator

from model.spec_base import Spec


class Augmentation(Spec):
    """Random changes of each training image, drawn anew every time it is seen; each is off until it is given."""

    probability: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Share of the images that are changed; the others stay as they are",
        examples=[0.9],
    )
    shift: float = Field(
        0.0, ge=0.0, le=14.0, description="Most pixels that an image moves, along each axis", examples=[2.0]
    )
    rotation: float = Field(
        0.0, ge=0.0, le=180.0, description="Most degrees that it turns, either way", examples=[10.0]
    )
    scale: float = Field(
        0.0, ge=0.0, le=0.9, description="Most that it grows or shrinks, as a share of its size", examples=[0.1]
    )
    shear: float = Field(
        0.0, ge=0.0, le=60.0, description="Most degrees that its upright lines lean, either way", examples=[10.0]
    )
    elastic: float = Field(
        0.0,
        ge=0.0,
        le=20.0,
        description="Root mean square of the pixels that each point is moved by (Simard et al. 2003, section 2)",
        examples=[1.0],
    )
    elastic_sigma: float = Field(
        4.0,
        ge=1.0,
        le=14.0,
        description="How smoothly neighbours are moved: standard deviation of the Gaussian, in pixels",
        examples=[4.0],
    )
    thickness: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Most that strokes grow thicker or thinner: 1 is a pixel on each side",
        examples=[0.5],
    )
    noise: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Standard deviation of what is added to each pixel; full ink is 1",
        examples=[0.05],
    )

    variants: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Share of the 0s, 1s and 7s that are written as some people do: a slash through the 0, a flag and "
        "perhaps a foot on the 1, a bar through the 7",
        examples=[0.2],
    )

    @model_validator(mode="after")
    def _check_something_changes(self) -> Self:
        moves = (self.shift, self.rotation, self.scale, self.shear, self.elastic)
        if not any((*moves, self.thickness, self.noise, self.variants)):
            raise ValueError("give at least one change above 0, or null in place of the whole")
        return self
