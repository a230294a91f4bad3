"""What fit() yields: reports of steps and epochs, checkpoints, and the result."""

from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from model.scores import MeanScores

if TYPE_CHECKING:
    from model.network import NetworkParameters

_TOP_K = "Share of the images whose label is among the k largest outputs, where metrics ask for it"
_PER_CLASS = "Share of right answers for each digit, 0 to 9, where metrics ask for it; null for one without images"
_SHARES = [0.99, 0.98, 0.97, 0.96, 0.98, 0.97, 0.98, 0.97, 0.95, 0.95]


class StepReport(BaseModel):
    """How far the training is, and the means over the mini-batches since the last report."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(description="The epoch that is being trained, from 1", examples=[3])
    epochs: int = Field(description="Epochs in the run", examples=[20])
    step: int = Field(description="Finished steps of the whole run", examples=[1234])
    steps: int = Field(description="Steps in the run", examples=[12000])
    loss: float | None = Field(None, description="Mean loss since the last report", examples=[0.12])
    accuracy: float | None = Field(None, description="Share of right answers since the last report", examples=[0.96])
    images_per_second: float | None = Field(
        None, description="Training speed; null before it is measured", examples=[21000.0]
    )
    seconds_left: float | None = Field(None, description="Expected seconds to the end of training", examples=[55.0])


class EpochReport(BaseModel):
    """One row of a run's history."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(description="The finished epoch, from 1", examples=[3])
    loss: float = Field(
        description="Mean training loss over the epoch: dropout and augmentation on, class weights applied, without "
        "regularisation",
        examples=[0.12],
    )
    accuracy: float = Field(description="Share of right answers over the epoch", examples=[0.96])
    top_k_accuracy: float | None = Field(None, description=_TOP_K, examples=[0.99])
    per_class_accuracy: tuple[float | None, ...] | None = Field(None, description=_PER_CLASS, examples=[_SHARES])
    validation_loss: float | None = Field(None, description="Mean loss on the held-out images", examples=[0.11])
    validation_accuracy: float | None = Field(None, description="Share of right answers on them", examples=[0.97])
    validation_top_k_accuracy: float | None = Field(None, description=f"On them: {_TOP_K}", examples=[0.99])
    validation_per_class_accuracy: tuple[float | None, ...] | None = Field(
        None, description=f"On them: {_PER_CLASS}", examples=[_SHARES]
    )
    learning_rate: float | None = Field(None, description="That of the epoch's last step", examples=[0.001])
    seconds: float = Field(description="Seconds that the epoch took, validation included", examples=[4.9])

    @property
    def validation(self) -> MeanScores | None:
        if self.validation_loss is None or self.validation_accuracy is None:
            return None
        return MeanScores(
            self.validation_loss,
            self.validation_accuracy,
            self.validation_top_k_accuracy,
            self.validation_per_class_accuracy,
        )


class Checkpoint(NamedTuple):
    """A training as bytes, to be stored in place of the last ones; fit goes on from them as if nothing had happened."""

    data: bytes


class FitResult(NamedTuple):
    """The last report of a training: its parameters, and their scores on the held-out images, if any were.

    last_good: weights of a moment before, which gave finite losses, for the case that these do not; None without any.
    """

    parameters: "NetworkParameters"
    validation: MeanScores | None
    last_good: "NetworkParameters | None"


Report = StepReport | EpochReport | Checkpoint | FitResult
