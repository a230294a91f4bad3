"""Everything that determines a run's result, as frozen types that refuse what cannot be trained.

A `TrainSpec` is data: it is stored with every run and model, sent over REST, and (in parts) a static
argument of the jitted functions. The defaults are the tutorial network's.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from model.spec_base import Spec
from model.spec_optimizers import Adam, CosineDecay, Optimizer

CLASSES = 10
IMAGE_SHAPE = (28, 28, 1)
MAX_PARAMETERS = 16_000_000  # 64 MB of float32, the most that one model may weigh
MAX_LAYERS = 64
MAX_UNITS = 8_192
MAX_BATCH_SIZE = 10_000
MAX_EPOCHS = 1_000

Shape = tuple[int, ...]
# fmt: off
Activation = Literal[
    "linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "softmax", "hard_sigmoid"
]
Initializer = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
    "orthogonal", "zeros",
]
# fmt: on
Padding = Literal["valid", "same"]
Size = Annotated[int, Field(ge=1, le=28)]
LossName = Literal[
    "categorical_crossentropy", "mean_squared_error", "mean_absolute_error", "hinge", "kl_divergence", "poisson"
]
Metric = Literal["accuracy"]


class LayerSpec(Spec):
    """A layer, and what it makes of shapes: by itself it changes none and has no parameters."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_count(self, input_shape: Shape) -> int:
        return 0

    def multiplications(self, input_shape: Shape) -> int:
        """Multiply-adds of one image on its way through the layer, those of its parameters alone."""
        return self.parameter_count(input_shape)


class Flatten(LayerSpec):
    """Turns an image into one row of numbers."""

    type: Literal["flatten"] = Field("flatten", description="The kind of layer", examples=["flatten"])

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) == 1:
            raise ValueError(f"its input is flat already ({input_shape[0]} numbers); remove this flatten")
        return (math.prod(input_shape),)


class Dense(LayerSpec):
    """activation(x · kernel + bias); the bias starts at zero."""

    type: Literal["dense"] = Field("dense", description="The kind of layer", examples=["dense"])
    units: int = Field(ge=1, le=MAX_UNITS, description="Number of neurons", examples=[500])
    activation: Activation = Field("linear", description="Applied to each output", examples=["sigmoid"])
    kernel_initializer: Initializer = Field(
        "glorot_uniform",
        description="How the kernel starts, as Keras' initializer of that name",
        examples=["he_normal"],
    )

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"it needs a flat input, not {format_shape(input_shape)}; put a flatten before it")
        return (self.units,)

    def parameter_count(self, input_shape: Shape) -> int:
        return (math.prod(input_shape) + 1) * self.units


class _Window(LayerSpec):
    """A layer that looks at an image through a window that moves over it."""

    padding: Padding = Field(
        "valid",
        description="valid: the window stays inside the image; same: zeros around it keep the size (at stride 1)",
        examples=["same"],
    )

    @property
    def window(self) -> tuple[int, int]:
        """The window's side and its stride, in pixels."""
        raise NotImplementedError

    def window_shape(self, input_shape: Shape) -> Shape:
        """[H', W']: how many places the window takes."""
        if len(input_shape) != 3:
            raise ValueError(f"it needs an image, not {format_shape(input_shape)}; put it before the flatten")
        side, stride = self.window
        if self.padding == "same":
            return tuple(-(-size // stride) for size in input_shape[:2])
        if side > min(input_shape[:2]):
            raise ValueError(f"its window of {side} × {side} does not fit into {format_shape(input_shape)}")
        return tuple((size - side) // stride + 1 for size in input_shape[:2])


class Conv2D(_Window):
    """activation(convolution of the image with the kernel + bias), channels last; the bias starts at zero."""

    type: Literal["conv2d"] = Field("conv2d", description="The kind of layer", examples=["conv2d"])
    filters: int = Field(ge=1, le=1_024, description="Channels of the output", examples=[32])
    kernel_size: Size = Field(3, description="Side of the window in pixels", examples=[3])
    strides: Size = Field(1, description="Pixels from one place of the window to the next", examples=[1])
    activation: Activation = Field("linear", description="Applied to each output", examples=["relu"])
    kernel_initializer: Initializer = Field(
        "glorot_uniform",
        description="How the kernel starts, as Keras' initializer of that name",
        examples=["he_normal"],
    )

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel_size, self.strides

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self.window_shape(input_shape), self.filters)

    def parameter_count(self, input_shape: Shape) -> int:
        return (self.kernel_size**2 * input_shape[-1] + 1) * self.filters

    def multiplications(self, input_shape: Shape) -> int:
        return math.prod(self.window_shape(input_shape)) * self.parameter_count(input_shape)


class _Pooling(_Window):
    pool_size: Size = Field(2, description="Side of the window in pixels", examples=[2])
    strides: Size | None = Field(None, description="Pixels from place to place; null: the window's side", examples=[2])

    @property
    def window(self) -> tuple[int, int]:
        return self.pool_size, self.strides or self.pool_size

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self.window_shape(input_shape), input_shape[-1])


class MaxPooling2D(_Pooling):
    """The largest number in the window, of each channel; zeros around the image do not count."""

    type: Literal["max_pooling2d"] = Field("max_pooling2d", description="The kind of layer", examples=["max_pooling2d"])


class AveragePooling2D(_Pooling):
    """The mean of the window, of each channel; zeros around the image do not count."""

    type: Literal["average_pooling2d"] = Field(
        "average_pooling2d", description="The kind of layer", examples=["average_pooling2d"]
    )


class GlobalAveragePooling2D(LayerSpec):
    """The mean of the whole image, of each channel."""

    type: Literal["global_average_pooling2d"] = Field(
        "global_average_pooling2d", description="The kind of layer", examples=["global_average_pooling2d"]
    )

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ValueError(f"it needs an image, not {format_shape(input_shape)}; put it in the flatten's place")
        return input_shape[2:]


class ActivationLayer(LayerSpec):
    """Applies a function to each number of its input (softmax: to the whole row)."""

    type: Literal["activation"] = Field("activation", description="The kind of layer", examples=["activation"])
    activation: Activation = Field(description="The function to apply", examples=["relu"])


class Dropout(LayerSpec):
    """Zeroes a random part of its input while training and scales up the rest; does nothing afterwards."""

    type: Literal["dropout"] = Field("dropout", description="The kind of layer", examples=["dropout"])
    rate: float = Field(ge=0.0, lt=1.0, description="Share of the input that is zeroed", examples=[0.2])


Layer = Annotated[
    Flatten | Dense | Conv2D | MaxPooling2D | AveragePooling2D | GlobalAveragePooling2D | ActivationLayer | Dropout,
    Field(discriminator="type"),
]


class LayerShape(NamedTuple):
    """One row of a network's summary."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    parameters: int
    multiplications: int


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
        yield LayerShape(layer, shape, output_shape, layer.parameter_count(shape), layer.multiplications(shape))
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


class CategoricalCrossentropy(Spec):
    """Crossentropy of the softmax with the labels, which may be smoothed."""

    type: Literal["categorical_crossentropy"] = Field(
        "categorical_crossentropy", description="The kind of loss", examples=["categorical_crossentropy"]
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the label's 1 that is spread over all ten classes (Szegedy et al. 2016, section 7)",
        examples=[0.1],
    )


Loss = Annotated[
    Annotated[LossName, Tag("name")] | Annotated[CategoricalCrossentropy, Tag("object")],
    Discriminator(lambda loss: "object" if isinstance(loss, dict | CategoricalCrossentropy) else "name"),
]
# The outputs that a loss can be computed from; the others take any.
_OUTPUTS_OF_LOSS: dict[LossName, tuple[Activation, ...]] = {
    "categorical_crossentropy": ("softmax", "linear"),
    "kl_divergence": ("softmax",),
    "poisson": ("softmax", "sigmoid", "hard_sigmoid", "relu", "softplus"),
}


def loss_name(loss: Loss) -> LossName:
    return loss if isinstance(loss, str) else loss.type


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
        description="What training makes small, as Keras has it: a name, or an object where it has parameters. "
        "Categorical crossentropy is computed from logits: a final softmax is fused with it, a final linear layer is "
        "read as logits",
        examples=["categorical_crossentropy", {"type": "categorical_crossentropy", "label_smoothing": 0.1}],
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
        network, outputs = info.data.get("network"), _OUTPUTS_OF_LOSS.get(loss_name(loss))
        if network and outputs and final_activation(network) not in outputs:
            raise ValueError(
                f"{loss_name(loss)} needs a last layer with {' or '.join(outputs)}, "
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
