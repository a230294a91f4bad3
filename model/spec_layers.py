"""The layers of a network: what each is given, and what it makes of shapes."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from model.spec_base import LARGEST_MOMENTUM, Kind, Spec

CLASSES = 10
IMAGE_SIDE = 28
DIGIT_SIDE = 20  # of MNIST's digits, the longer one
DIGIT_CENTRE = 14  # the pixel across and down on which their centre of mass is
IMAGE_SHAPE = (IMAGE_SIDE, IMAGE_SIDE, 1)
MAX_PARAMETERS = 16_000_000  # 64 MB of float32, the most that one model may weigh
MAX_LAYERS = 64
MAX_UNITS = 8_192

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


class LayerSpec(Kind):
    """A layer, and what it makes of shapes: by itself it changes none and has no parameters."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_count(self, input_shape: Shape) -> int:
        """Numbers that the layer keeps, running statistics included, as Keras counts them."""
        return 0

    def statistics_count(self, input_shape: Shape) -> int:
        """Those of them that no gradient changes."""
        return 0

    def multiplications(self, input_shape: Shape) -> int:
        """Multiply-adds of one image on its way through the layer, those of its parameters alone."""
        return self.parameter_count(input_shape)


class KernelRegularizer(Spec):
    """Added to the loss that is made small, not to the one that is shown: l1 · Σ|w| + l2 · Σw² over the kernel."""

    l1: float = Field(0.0, ge=0.0, le=10.0, description="Weight of the sum of sizes", examples=[0.00001])
    l2: float = Field(0.0, ge=0.0, le=10.0, description="Weight of the sum of squares", examples=[0.0001])

    @model_validator(mode="after")
    def _check_one_is_set(self) -> Self:
        if self.l1 == self.l2 == 0:
            raise ValueError("give l1 or l2 above 0, or null in place of the whole")
        return self


class MaxNorm(Spec):
    """After each step, a unit's incoming weights are scaled down to this norm (Srivastava et al. 2014, section 5.1)."""

    type: Literal["max_norm"] = Field("max_norm", description="The kind of constraint", examples=["max_norm"])
    max_value: float = Field(
        gt=0.0, le=1e6, description="Largest L2 norm of the weights of one unit or filter", examples=[3.0]
    )


class KernelLayer(LayerSpec):
    """A layer that multiplies by a kernel, adds a bias that starts at zero, and applies a function."""

    activation: Activation = Field("linear", description="Applied to each output", examples=["relu"])
    kernel_initializer: Initializer = Field(
        "glorot_uniform",
        description="How the kernel starts, as Keras' initializer of that name",
        examples=["he_normal"],
    )
    kernel_regularizer: KernelRegularizer | None = Field(None, description="Keeps the kernel small; null: nothing does")
    kernel_constraint: MaxNorm | None = Field(None, description="Bounds the kernel; null: nothing does")


class Flatten(LayerSpec):
    """Turns an image into one row of numbers."""

    type: Literal["flatten"] = Field("flatten", description="The kind of layer", examples=["flatten"])

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) == 1:
            raise ValueError(f"its input is flat already ({input_shape[0]} numbers); remove this flatten")
        return (math.prod(input_shape),)


class Dense(KernelLayer):
    """activation(x · kernel + bias); the bias starts at zero."""

    type: Literal["dense"] = Field("dense", description="The kind of layer", examples=["dense"])
    units: int = Field(ge=1, le=MAX_UNITS, description="Number of neurons", examples=[500])

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


class Conv2D(_Window, KernelLayer):
    """activation(convolution of the image with the kernel + bias), channels last; the bias starts at zero."""

    type: Literal["conv2d"] = Field("conv2d", description="The kind of layer", examples=["conv2d"])
    filters: int = Field(ge=1, le=1_024, description="Channels of the output", examples=[32])
    kernel_size: Size = Field(3, description="Side of the window in pixels", examples=[3])
    strides: Size = Field(1, description="Pixels from one place of the window to the next", examples=[1])

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


class BatchNormalization(LayerSpec):
    """gamma · (x - mean) / √(variance + epsilon) + beta, of each channel (Ioffe & Szegedy 2015, algorithm 1).

    While training, mean and variance are the mini-batch's; afterwards those that ran along with the training.
    """

    type: Literal["batch_normalization"] = Field(
        "batch_normalization", description="The kind of layer", examples=["batch_normalization"]
    )
    momentum: float = Field(
        0.99,
        ge=0.0,
        le=LARGEST_MOMENTUM,
        description="Share of the running mean and variance that a step keeps",
        examples=[0.9],
    )
    epsilon: float = Field(1e-3, ge=1e-12, le=1.0, description="Keeps the divisor above zero", examples=[1e-3])

    def parameter_count(self, input_shape: Shape) -> int:
        return 4 * input_shape[-1]

    def statistics_count(self, input_shape: Shape) -> int:
        return 2 * input_shape[-1]


Layer = Annotated[
    Flatten
    | Dense
    | Conv2D
    | MaxPooling2D
    | AveragePooling2D
    | GlobalAveragePooling2D
    | BatchNormalization
    | ActivationLayer
    | Dropout,
    Field(discriminator="type"),
]


class LayerShape(NamedTuple):
    """One row of a network's summary."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    parameters: int
    statistics: int
    multiplications: int


def format_shape(shape: Shape) -> str:
    return " × ".join(str(size) for size in shape)


def layer_shapes(network: tuple[Layer, ...]) -> Iterator[LayerShape]:
    """Walks the network from a 28 × 28 × 1 image; raises a ValidationError at the layer that does not fit."""
    shape: Shape = IMAGE_SHAPE
    for index, layer in enumerate(network):
        try:
            output_shape = layer.output_shape(shape)
        except ValueError as error:
            raise _misfit(index, layer, str(error)) from None
        yield LayerShape(
            layer,
            shape,
            output_shape,
            layer.parameter_count(shape),
            layer.statistics_count(shape),
            layer.multiplications(shape),
        )
        shape = output_shape


def _misfit(index: int, layer: Layer, reason: str) -> ValidationError:
    """Placed as pydantic places what is wrong with a layer by itself."""
    error = PydanticCustomError("layer_misfit", "{reason}", {"reason": reason})
    place = (index, layer.type)
    return ValidationError.from_exception_data("Network", [{"type": error, "loc": place, "input": layer}])


def _check_network(network: tuple[Layer, ...]) -> tuple[Layer, ...]:
    shapes = list(layer_shapes(network))
    last, index = shapes[-1], len(shapes) - 1
    if last.layer.type not in ("dense", "activation"):
        raise _misfit(index, last.layer, "the last layer must be dense or activation")
    if last.output_shape != (CLASSES,):
        got = format_shape(last.output_shape)
        raise _misfit(index, last.layer, f"the last layer must give {CLASSES} numbers, one a digit, not {got}")
    parameters = sum(shape.parameters for shape in shapes)
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"the network has {parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed")
    return network


Network = Annotated[
    tuple[Layer, ...],
    Field(min_length=1, max_length=MAX_LAYERS),
    AfterValidator(_check_network),
]


def final_activation(network: tuple[Layer, ...]) -> Activation:
    """What turns the network's logits into its outputs: the last layer's activation."""
    last = network[-1]
    assert isinstance(last, Dense | ActivationLayer), "Network refuses any other last layer"
    return last.activation
