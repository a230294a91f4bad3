"""Everything that determines a run's result, as frozen types that refuse what cannot be trained.

A `TrainSpec` is data: it is stored with every run and model, sent over REST, and (in parts) a static
argument of the jitted functions. The defaults are the tutorial network's.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

CLASSES = 10
IMAGE_SHAPE = (28, 28, 1)
MAX_PARAMETERS = 16_000_000  # 64 MB of float32, the most that one model may weigh
MAX_LAYERS = 64
MAX_UNITS = 8_192
MAX_BATCH_SIZE = 10_000
MAX_EPOCHS = 1_000

Shape = tuple[int, ...]
Activation = Literal["linear", "sigmoid", "tanh", "relu", "softmax"]
Loss = Literal["categorical_crossentropy", "mean_squared_error"]
Metric = Literal["accuracy"]


class Spec(BaseModel):
    """A frozen part of a spec: hashable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LayerSpec(Spec):
    """A layer, and what it makes of shapes: by itself it changes none and has no parameters."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_count(self, input_shape: Shape) -> int:
        return 0


class Flatten(LayerSpec):
    """Turns an image into one row of numbers."""

    type: Literal["flatten"] = Field("flatten", description="The kind of layer", examples=["flatten"])

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) == 1:
            raise ValueError(f"its input is flat already ({input_shape[0]} numbers); remove this flatten")
        return (math.prod(input_shape),)


class Dense(LayerSpec):
    """activation(x · kernel + bias), with Keras' default initializers (Glorot uniform, zeros)."""

    type: Literal["dense"] = Field("dense", description="The kind of layer", examples=["dense"])
    units: int = Field(ge=1, le=MAX_UNITS, description="Number of neurons", examples=[500])
    activation: Activation = Field("linear", description="Applied to each output", examples=["sigmoid"])

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"it needs a flat input, not {format_shape(input_shape)}; put a flatten before it")
        return (self.units,)

    def parameter_count(self, input_shape: Shape) -> int:
        return (math.prod(input_shape) + 1) * self.units


class ActivationLayer(LayerSpec):
    """Applies a function to each number of its input (softmax: to the whole row)."""

    type: Literal["activation"] = Field("activation", description="The kind of layer", examples=["activation"])
    activation: Activation = Field(description="The function to apply", examples=["relu"])


class Dropout(LayerSpec):
    """Zeroes a random part of its input while training and scales up the rest; does nothing afterwards."""

    type: Literal["dropout"] = Field("dropout", description="The kind of layer", examples=["dropout"])
    rate: float = Field(ge=0.0, lt=1.0, description="Share of the input that is zeroed", examples=[0.2])


Layer = Annotated[Flatten | Dense | ActivationLayer | Dropout, Field(discriminator="type")]


class LayerShape(NamedTuple):
    """One row of a network's summary."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    parameters: int


def format_shape(shape: Shape) -> str:
    return " × ".join(str(size) for size in shape)


def layer_shapes(network: tuple[Layer, ...]) -> Iterator[LayerShape]:
    """Walks the network from a 28 × 28 × 1 image; raises ValueError that names the layer that does not fit."""
    shape: Shape = IMAGE_SHAPE
    for index, layer in enumerate(network):
        try:
            output_shape = layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"layer {index} ({layer.type}): {error}") from None
        yield LayerShape(layer, shape, output_shape, layer.parameter_count(shape))
        shape = output_shape


def _check_network(network: tuple[Layer, ...]) -> tuple[Layer, ...]:
    shapes = list(layer_shapes(network))
    last, index = shapes[-1], len(shapes) - 1
    if last.layer.type not in ("dense", "activation"):
        raise ValueError(f"layer {index} ({last.layer.type}): the last layer must be dense or activation")
    if last.output_shape != (CLASSES,):
        got = format_shape(last.output_shape)
        raise ValueError(
            f"layer {index} ({last.layer.type}): the last layer must give {CLASSES} numbers, one a digit, not {got}"
        )
    parameters = sum(shape.parameters for shape in shapes)
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"the network has {parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed")
    return network


Network = Annotated[
    tuple[Layer, ...],
    Field(min_length=1, max_length=MAX_LAYERS),
    AfterValidator(_check_network),
]


class CosineDecay(Spec):
    """From `initial_learning_rate` along half a cosine to `alpha` times it at the end of the run.

    Loshchilov & Hutter, SGDR (2017), eq. 5 without restarts; Keras' `CosineDecay` over all the run's steps.
    """

    type: Literal["cosine_decay"] = Field("cosine_decay", description="The kind of schedule", examples=["cosine_decay"])
    initial_learning_rate: float = Field(gt=0.0, le=10.0, description="At the first step", examples=[0.002])
    alpha: float = Field(
        0.0, ge=0.0, le=1.0, description="Final learning rate, as a share of the first", examples=[0.0]
    )


Schedule = Annotated[CosineDecay, Field(description="A learning rate that changes with the step")]
LearningRate = Annotated[float, Field(gt=0.0, le=10.0)] | Schedule


class Sgd(Spec):
    """Gradient descent, with momentum and Nesterov's variant; equal to Keras' `SGD` while the rate is constant.

    Under a schedule the velocity is of gradients, as in PyTorch, not of steps.
    """

    type: Literal["sgd"] = Field("sgd", description="The kind of optimizer", examples=["sgd"])
    learning_rate: LearningRate = Field(0.01, description="Step size, or a schedule of it", examples=[0.01])
    momentum: float = Field(0.0, ge=0.0, lt=1.0, description="Share of the last step that is kept", examples=[0.9])
    nesterov: bool = Field(False, description="Look ahead along the momentum", examples=[False])


class Adam(Spec):
    """Kingma & Ba (2015), algorithm 1, with Keras' defaults."""

    type: Literal["adam"] = Field("adam", description="The kind of optimizer", examples=["adam"])
    learning_rate: LearningRate = Field(0.001, description="Step size, or a schedule of it", examples=[0.001])
    beta_1: float = Field(0.9, ge=0.0, lt=1.0, description="Decay of the gradient's mean", examples=[0.9])
    beta_2: float = Field(0.999, ge=0.0, lt=1.0, description="Decay of the squared gradient's mean", examples=[0.999])
    epsilon: float = Field(1e-7, ge=1e-12, le=1.0, description="Keeps the divisor above zero", examples=[1e-7])


Optimizer = Annotated[Sgd | Adam, Field(discriminator="type")]


def _mlp(*units: int, activation: Activation) -> tuple[Layer, ...]:
    hidden = [Dense(units=count, activation=activation) for count in units]
    return (Flatten(), *hidden, Dense(units=CLASSES, activation="softmax"))


class TrainSpec(Spec):
    """What to train and how. Every field has a default: together they are the tutorial network's training."""

    name: str = Field(
        "tutorial",
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
        description="A label for people; printable, on one line",
        examples=["two hidden layers"],
    )
    dataset: Literal["mnist"] = Field("mnist", description="60,000 training and 10,000 test images", examples=["mnist"])
    network: Network = Field(
        _mlp(500, 500, activation="sigmoid"),
        description="The layers in order, as in Keras' `Sequential`; the last gives 10 numbers",
        examples=[[layer.model_dump() for layer in _mlp(500, 500, activation="sigmoid")]],
    )
    loss: Loss = Field(
        "categorical_crossentropy",
        validate_default=True,
        description="What training makes small. Categorical crossentropy is computed from logits: "
        "a final softmax is fused with it, a final linear layer is read as logits",
        examples=["categorical_crossentropy"],
    )
    optimizer: Optimizer = Field(
        Adam(), description="How the gradient changes the parameters", examples=[Adam().model_dump()]
    )
    metrics: tuple[Metric, ...] = Field(
        ("accuracy",), max_length=1, description="What is reported beside the loss", examples=[["accuracy"]]
    )
    batch_size: int = Field(100, ge=1, le=MAX_BATCH_SIZE, description="Images in a mini-batch", examples=[100])
    epochs: int = Field(20, ge=1, le=MAX_EPOCHS, description="Times that every image is seen", examples=[20])
    validation_split: float = Field(
        0.0,
        ge=0.0,
        le=0.9,
        description="Share of the training images, taken from their end, that is held out to judge each epoch",
        examples=[0.1],
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Determines initial weights, shuffling and dropout", examples=[0])

    @field_validator("validation_split")
    @classmethod
    def _check_validation_split(cls, share: float) -> float:
        if 0.0 < share < 0.001:
            raise ValueError("Input should be 0, or at least 0.001 so that there are images to judge by")
        return share

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, loss: Loss, info: ValidationInfo) -> Loss:
        network = info.data.get("network")
        if loss == "categorical_crossentropy" and network and final_activation(network) not in ("softmax", "linear"):
            raise ValueError(
                "categorical_crossentropy needs a last layer with softmax (or linear, read as logits), "
                f"not {final_activation(network)}; or choose mean_squared_error"
            )
        return loss


def final_activation(network: tuple[Layer, ...]) -> Activation:
    """What turns the network's logits into its outputs: the last layer's activation."""
    last = network[-1]
    assert isinstance(last, Dense | ActivationLayer), "Network refuses any other last layer"
    return last.activation


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
            network=_mlp(256, 256, activation="relu"),
            optimizer=Adam(learning_rate=CosineDecay(initial_learning_rate=0.003)),
            batch_size=128,
            epochs=4,
        ),
    ),
}
PresetName = Literal["tutorial", "quick"]


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
