"""What is decided after each epoch, as data: when to stop, and when to lower the learning rate. Names are Keras'."""

from typing import Literal

from pydantic import Field

from model.spec_base import Spec

Monitor = Literal["loss", "accuracy", "validation_loss", "validation_accuracy"]


class _Monitoring(Spec):
    monitor: Monitor = Field(
        "validation_loss", description="The number of the history that is watched", examples=["validation_accuracy"]
    )


class EarlyStopping(_Monitoring):
    """Ends the run once the monitored number has not improved for `patience` epochs: Keras' `EarlyStopping`."""

    patience: int = Field(
        0, ge=0, le=1_000, description="Epochs without improvement after which the run ends", examples=[3]
    )
    min_delta: float = Field(
        0.0, ge=0.0, le=100.0, description="Least change that counts as an improvement", examples=[0.001]
    )
    restore_best_weights: bool = Field(
        False,
        description="The model is the best epoch's, not the last one's, however the run ends",
        examples=[True],
    )


class ReduceLrOnPlateau(_Monitoring):
    """Lowers the learning rate once the monitored number has not improved: Keras' `ReduceLROnPlateau`."""

    factor: float = Field(0.1, gt=0.0, lt=1.0, description="What the learning rate is multiplied by", examples=[0.5])
    patience: int = Field(
        10, ge=0, le=1_000, description="Epochs without improvement after which it is lowered", examples=[3]
    )
    min_delta: float = Field(
        1e-4, ge=0.0, le=100.0, description="Least change that counts as an improvement", examples=[1e-4]
    )
    cooldown: int = Field(
        0,
        ge=0,
        le=1_000,
        description="Epochs after a lowering before the wait begins again (as in Keras, the last of them counts)",
        examples=[2],
    )
    min_lr: float = Field(0.0, ge=0.0, le=10.0, description="The learning rate never falls below it", examples=[1e-5])
