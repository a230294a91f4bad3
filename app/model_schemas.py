"""The shapes of requests and answers about models and their aliases."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from app.schemas import LINES, MODEL_ID, MODEL_NAME, RUN_ID, Wire
from model.scores import Evaluation
from model.spec import LABEL, TrainSpec

DESCRIPTION = "Trained on the pens of room 12; reads crossed sevens."

Sort = Literal["created_at", "name", "accuracy", "loss", "parameters"]
Order = Literal["asc", "desc"]


class Scores(Wire):
    """A model's test scores, and its validation scores where images were held out."""

    loss: float = Field(description="Mean loss on the 10,000 test images", examples=[0.081])
    accuracy: float = Field(description="Share of them named right", examples=[0.9778])
    validation_loss: float | None = Field(None, description="Mean loss on the held-out images", examples=[0.08])
    validation_accuracy: float | None = Field(None, description="Share of them named right", examples=[0.978])


class ModelInfo(Wire):
    """A published model."""

    id: str = Field(description="The model's id", examples=[MODEL_ID])
    name: str = Field(description="Its label: of its run, unless it was renamed", examples=["two hidden layers"])
    description: str = Field("", description="What people should know of it", examples=[DESCRIPTION])
    run: str | None = Field(None, description="The run that published it; null: it was uploaded", examples=[RUN_ID])
    created_at: datetime = Field(description="When it was published", examples=["2026-11-23T15:01:40Z"])
    parameters: int = Field(description="How many numbers were trained", examples=[648010])
    spec: dict[str, JsonValue] = Field(
        description="What it was trained by, as `POST /train` takes it; of an older version, it may be refused there",
        examples=[TrainSpec().model_dump(mode="json")],
    )
    scores: Scores = Field(description="How good it is")
    aliases: list[str] = Field(description="Names that point to it", examples=[["default"]])
    pinned: bool = Field(description="Somebody has pinned it as the default", examples=[False])


class ModelList(Wire):
    """Published models, in the order asked for."""

    models: list[ModelInfo] = Field(description="The models")
    next_offset: int | None = Field(None, description="`offset` of the next page; null on the last", examples=[20])


class LeaderboardEntry(Wire):
    """A model's place among the others."""

    model: str = Field(description="The model's id", examples=[MODEL_ID])
    name: str = Field(description="Its label", examples=["two hidden layers"])
    loss: float = Field(description="Mean loss on the 10,000 test images", examples=[0.081])
    accuracy: float = Field(description="Share of them named right", examples=[0.9778])
    parameters: int = Field(description="How many numbers were trained", examples=[648010])


class Leaderboard(Wire):
    """Every model, best accuracy first; among equals, the smallest loss first."""

    models: list[LeaderboardEntry] = Field(description="The models")


class ModelEvaluation(Evaluation):
    """A model's full report on the test set."""

    model: str = Field(description="The model's id", examples=[MODEL_ID])


class DefaultModel(Wire):
    """Which model `/predict` uses."""

    model: str | None = Field(
        pattern=MODEL_NAME,
        description="The model to pin; null unpins, and the best model is the default again",
        examples=[MODEL_ID],
    )


class ModelChange(Wire):
    """What to change about a model; a field left out, or null, stays as it is."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        pattern=LABEL,
        description="Its new label; printable, on one line",
        examples=["pens of room 12"],
    )
    description: str | None = Field(
        None,
        max_length=2_000,
        pattern=LINES,
        description="What people should know of it; empty: nothing",
        examples=[DESCRIPTION],
    )

    @model_validator(mode="after")
    def _check_something_changes(self) -> Self:
        if self.name is None and self.description is None:
            raise ValueError("give a name, a description, or both")
        return self


class AliasInfo(Wire):
    """A movable name of a model."""

    name: str = Field(description="The name", examples=["room-12"])
    model: str = Field(description="The model that it stands for", examples=[MODEL_ID])
    pinned: bool = Field(description="`default` alone: somebody has pinned it", examples=[False])
    share: float = Field(ge=0.0, le=1.0, description="`candidate` alone: its share of the traffic", examples=[0.1])
    shadow: bool = Field(description="`candidate` alone: it answers in the default's shadow", examples=[False])


class AliasList(Wire):
    """Every alias, by name."""

    aliases: list[AliasInfo] = Field(description="The aliases")


class AliasChoice(Wire):
    """Which model an alias stands for."""

    model: str = Field(pattern=MODEL_NAME, description="The model's id, or another alias of it", examples=[MODEL_ID])


class CandidateChoice(Wire):
    """Which model is tried beside the default, and how: exactly one of `share` above 0 and `shadow`."""

    model: str | None = Field(
        pattern=MODEL_NAME, description="The model to try; null ends the trial", examples=[MODEL_ID]
    )
    share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Share of the predictions that it answers in the default's place",
        examples=[0.1],
    )
    shadow: bool = Field(
        False,
        description="It sees the default's predictions; its own are compared, and shown to nobody",
        examples=[True],
    )

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        ways = (self.share > 0) + self.shadow
        if self.model is None and ways:
            raise ValueError("without a model there is nothing to try; leave share and shadow out, or name one")
        if self.model is not None and ways != 1:
            raise ValueError("give exactly one of a share above 0 and shadow: true")
        return self


class CandidateInfo(Wire):
    """The model that is tried beside the default, and what came of it so far."""

    model: str | None = Field(description="Its id; null: none is tried", examples=[MODEL_ID])
    share: float = Field(ge=0.0, le=1.0, description="Share of the predictions that it answers", examples=[0.1])
    shadow: bool = Field(description="It answers in the default's shadow", examples=[False])
    answered: int = Field(ge=0, description="Images that it has answered", examples=[1200])
    compared: int = Field(ge=0, description="Images that both it and the default have answered", examples=[1200])
    agreed: int = Field(ge=0, description="Those of them on which both named the same digit", examples=[1187])


class Difference(Wire):
    """A field in which the specs of models are not all equal."""

    field: str = Field(description="Its path", examples=["spec.optimizer.learning_rate"])
    values: list[JsonValue] = Field(
        description="Its value in each model, in their order; null where it has no such field", examples=[[0.001, 0.01]]
    )


class DigitComparison(Wire):
    """How well each model tells one digit from the others, in the models' order."""

    digit: int = Field(ge=0, le=9, description="The digit", examples=[7])
    precision: list[float] = Field(description="Share of the images named so that are it", examples=[[0.98, 0.97]])
    recall: list[float] = Field(description="Share of its images that are named so", examples=[[0.97, 0.98]])
    f1: list[float] = Field(description="Harmonic mean of precision and recall", examples=[[0.975, 0.975]])


class ModelComparison(Wire):
    """Models side by side."""

    models: list[ModelInfo] = Field(description="The models with their scores, in the order asked for")
    differences: list[Difference] = Field(description="Where their specs differ")
    per_class: list[DigitComparison] = Field(description="Their scores on each digit of the test set, 0 to 9")
