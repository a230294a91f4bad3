"""Ready trainings, and a request that starts from one."""

from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from model.spec import TrainSpec, mlp
from model.spec_layers import CLASSES, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from model.spec_optimizers import Adam, CosineDecay


class Preset(NamedTuple):
    """A ready training, with a sentence that says what it is good for."""

    description: str
    spec: TrainSpec


PRESETS = {
    "tutorial": Preset(
        "The network that the Keras tutorials start with: two hidden layers of 500 sigmoid neurons, 20 epochs.",
        TrainSpec(),
    ),
    "quick": Preset(
        "At least 98 % in the fewest seconds: relu, larger batches and a learning rate that falls along a cosine.",
        TrainSpec(
            name="quick",
            network=mlp(256, 256, activation="relu"),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.003)),
            batch_size=128,
            epochs=4,
        ),
    ),
    "convnet": Preset(
        "A small convolutional network: about 99.3 %, in two minutes on two cores.",
        TrainSpec(
            name="convnet",
            network=(
                Conv2D(filters=32, kernel_size=5, strides=2, activation="relu", kernel_initializer="he_normal"),
                Dropout(rate=0.1),
                Conv2D(filters=64, kernel_size=3, activation="relu", kernel_initializer="he_normal"),
                MaxPooling2D(),
                Dropout(rate=0.25),
                Flatten(),
                Dense(units=128, activation="relu", kernel_initializer="he_normal"),
                Dropout(rate=0.4),
                Dense(units=CLASSES, activation="softmax"),
            ),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.002)),
            batch_size=128,
            epochs=10,
        ),
    ),
}
PresetName = Literal["tutorial", "quick", "convnet"]


class TrainRequest(TrainSpec):
    """A spec in which any field may be left out; `preset` says whose values stand in (the tutorial's)."""

    preset: PresetName = Field("tutorial", description="Supplies every field that is not given", examples=["quick"])

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("preset") not in [*PRESETS]:
            return data
        return {**dict(PRESETS[data["preset"]].spec), **data}

    def spec(self) -> TrainSpec:
        return TrainSpec.model_construct(**{name: getattr(self, name) for name in TrainSpec.model_fields})
