"""Ready trainings, and a request that starts from one."""

from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, model_validator

from model.spec import TrainSpec, mlp
from model.spec_augmentation import Augmentation
from model.spec_base import without_default
from model.spec_layers import (
    CLASSES,
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPooling2D,
)
from model.spec_optimizers import Adam, CosineDecay


class Preset(NamedTuple):
    """A ready training, with a sentence that says what it is good for."""

    description: str
    spec: TrainSpec


def _convolution(filters: int, kernel_size: int = 3, strides: int = 1) -> Conv2D:
    return Conv2D(filters=filters, kernel_size=kernel_size, strides=strides, kernel_initializer="he_normal")


_NORMALIZED_RELU: tuple[Layer, ...] = (BatchNormalization(momentum=0.9), ActivationLayer(activation="relu"))
_OUTPUT = Dense(units=CLASSES, activation="softmax")
_HANDWRITING = Augmentation(shift=2.0, rotation=10.0, scale=0.1, shear=6.0, elastic=0.7, thickness=0.3, variants=0.2)

PresetName = Literal["tutorial", "quick", "convnet", "accurate", "tiny"]
PRESETS: dict[PresetName, Preset] = {
    "tutorial": Preset(
        "The network that the Keras tutorials start with: two hidden layers of 500 sigmoid neurons, 20 epochs.",
        TrainSpec(),
    ),
    "quick": Preset(
        "Nearly 99 % in some twenty seconds on two cores: relu, larger batches, a learning rate that falls along a "
        "cosine, and images that vary as people's hands do.",
        TrainSpec(
            name="quick",
            network=mlp(256, 256, activation="relu"),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.003)),
            augmentation=_HANDWRITING,
            batch_size=128,
            epochs=10,
            validation_split=0.1,
        ),
    ),
    "convnet": Preset(
        "A small convolutional network: about 99.5 %, in some two minutes on two cores.",
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
                _OUTPUT,
            ),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.002)),
            augmentation=_HANDWRITING,
            batch_size=128,
            epochs=12,
            validation_split=0.1,
        ),
    ),
    "accurate": Preset(
        "The best that a quarter of an hour on two cores gives: a deeper convolutional network, batch normalization, "
        "images that are shifted, turned and bent anew in every epoch, and an average of the weights.",
        TrainSpec(
            name="accurate",
            network=(
                *(_convolution(32, kernel_size=5, strides=2), *_NORMALIZED_RELU),
                *(_convolution(64), *_NORMALIZED_RELU),
                *(_convolution(96), MaxPooling2D(), *_NORMALIZED_RELU),
                Flatten(),
                *(Dense(units=128, kernel_initializer="he_normal"), *_NORMALIZED_RELU, Dropout(rate=0.3)),
                _OUTPUT,
            ),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.003, warmup_steps=200)),
            augmentation=_HANDWRITING,
            ema_momentum=0.998,
            batch_size=128,
            epochs=32,
            validation_split=0.1,
        ),
    ),
    "tiny": Preset(
        "More than 99 % with fewer than 10,000 parameters, in two minutes on two cores.",
        TrainSpec(
            name="tiny",
            network=(
                *(_convolution(16), MaxPooling2D(), *_NORMALIZED_RELU),
                *(_convolution(16), *_NORMALIZED_RELU),
                *(_convolution(16), MaxPooling2D(), *_NORMALIZED_RELU),
                *(_convolution(16), *_NORMALIZED_RELU),
                *(Flatten(), Dropout(rate=0.1), _OUTPUT),
            ),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.01, warmup_steps=200)),
            augmentation=_HANDWRITING,
            ema_momentum=0.995,
            batch_size=128,
            epochs=14,
            validation_split=0.1,
        ),
    ),
}


def _without_defaults(schema: dict[str, Any]) -> None:
    """A client made of the schema would send the tutorial's beside another preset."""
    for field in schema["properties"].values():
        without_default(field)


class TrainRequest(TrainSpec):
    """A spec in which any field may be left out; `preset` says whose values stand in (the tutorial's)."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    preset: PresetName = Field(
        "tutorial", description="Supplies every field that is not given; `tutorial` if left out", examples=["quick"]
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("preset") not in [*PRESETS]:
            return data
        return {**dict(PRESETS[data["preset"]].spec), **data}

    def spec(self) -> TrainSpec:
        return TrainSpec.model_construct(**{name: getattr(self, name) for name in TrainSpec.model_fields})
