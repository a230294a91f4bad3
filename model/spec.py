"""Everything that determines a run's result, as frozen types that refuse what cannot be trained.

A `TrainSpec` is data: it is stored with every run and model, sent over REST, and (in parts) a static
argument of the jitted functions. The defaults are the tutorial network's.
"""

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, Tag, ValidationInfo, field_validator

from model.spec_augmentation import Augmentation
from model.spec_base import LARGEST_MOMENTUM, Spec, name_or_object, without_default
from model.spec_callbacks import EarlyStopping, ReduceLrOnPlateau
from model.spec_layers import CLASSES, Activation, Dense, Flatten, Layer, Network, final_activation
from model.spec_optimizers import Adam, Optimizer

MAX_BATCH_SIZE = 10_000
MAX_EPOCHS = 1_000
LABEL = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"  # printable, on one line, not only spaces

ClassWeight = Annotated[float, Field(strict=True, ge=0.0, le=1_000.0)]
LossName = Literal[
    "categorical_crossentropy", "mean_squared_error", "mean_absolute_error", "hinge", "kl_divergence", "poisson"
]
MetricName = Literal["accuracy", "top_k_categorical_accuracy", "per_class_accuracy"]


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
    Annotated[LossName, Tag("name")] | Annotated[CategoricalCrossentropy, Tag("categorical_crossentropy")],
    name_or_object(get_args(LossName), "categorical_crossentropy"),
]
# The outputs that a loss can be computed from; the others take any.
_OUTPUTS_OF_LOSS: dict[LossName, tuple[Activation, ...]] = {
    "categorical_crossentropy": ("softmax", "linear"),
    "kl_divergence": ("softmax",),
    "poisson": ("softmax", "sigmoid", "hard_sigmoid", "relu", "softplus"),
}


def loss_name(loss: Loss) -> LossName:
    return loss if isinstance(loss, str) else loss.type


class TopK(Spec):
    """Share of the images whose label is among the k largest outputs."""

    type: Literal["top_k_categorical_accuracy"] = Field(
        "top_k_categorical_accuracy", description="The kind of metric", examples=["top_k_categorical_accuracy"]
    )
    k: int = Field(5, ge=1, le=CLASSES, description="How many of the largest outputs count", examples=[2])


Metric = Annotated[
    Annotated[MetricName, Tag("name")] | Annotated[TopK, Tag("top_k_categorical_accuracy")],
    name_or_object(get_args(MetricName), "top_k_categorical_accuracy"),
]


def metric_name(metric: Metric) -> MetricName:
    return metric if isinstance(metric, str) else metric.type


def mlp(*units: int, activation: Activation) -> tuple[Layer, ...]:
    hidden = [Dense(units=count, activation=activation) for count in units]
    return (Flatten(), *hidden, Dense(units=CLASSES, activation="softmax"))


_C = TypeVar("_C", EarlyStopping | None, ReduceLrOnPlateau | None)


class TrainSpec(Spec):
    """What to train and how. Every field has a default: together they are the tutorial network's training."""

    name: str = Field(
        "tutorial",
        min_length=1,
        max_length=100,
        pattern=LABEL,
        description="A label for people; printable, on one line",
        examples=["two hidden layers"],
    )
    dataset: Literal["mnist"] = Field("mnist", description="60,000 training and 10,000 test images", examples=["mnist"])
    network: Network = Field(
        mlp(500, 500, activation="sigmoid"),
        description="The layers in order, as in Keras' `Sequential`; the last gives 10 numbers",
        examples=[[layer.model_dump() for layer in mlp(500, 500, activation="sigmoid")]],
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
        Adam(),
        description="How the gradient changes the parameters: a name, or an object where its settings are others",
        examples=[Adam().model_dump()],
        json_schema_extra=without_default,  # an object's stops some makers of clients
    )
    metrics: tuple[Metric, ...] = Field(
        ("accuracy",),
        max_length=3,
        description="What each epoch reports beside the loss, accuracy always: top-k (a name: k = 5) and the accuracy "
        "of each digit",
        examples=[["accuracy", {"type": "top_k_categorical_accuracy", "k": 2}, "per_class_accuracy"]],
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
    augmentation: Augmentation | None = Field(
        None, description="Random changes of the training images; null: they are seen as they are"
    )
    class_weight: tuple[ClassWeight, ...] | None = Field(
        None,
        min_length=CLASSES,
        max_length=CLASSES,
        description="What the training loss of each digit's images, 0 to 9, is multiplied by; null: 1 each",
        examples=[[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]],
    )
    early_stopping: EarlyStopping | None = Field(None, description="When to end before the last epoch; null: never")
    reduce_lr_on_plateau: ReduceLrOnPlateau | None = Field(
        None, description="When to lower the learning rate, which must be a number then; null: never"
    )
    ema_momentum: float | None = Field(
        None,
        gt=0.0,
        le=LARGEST_MOMENTUM,
        description="The model is an exponential moving average of the parameters, of which each step keeps this "
        "share (Polyak & Juditsky 1992; Keras' `use_ema`, but constraints hold for the average, and it is taken of "
        "batch normalization's statistics too). Validation judges the average; null: the last step's parameters",
        examples=[0.999],
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision of the training's matrix products; parameters, loss, statistics and the finished "
        "model's answers are float32 always",
        examples=["float32"],
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="Determines initial weights, shuffling, augmentation and dropout", examples=[0]
    )

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        names = [metric_name(metric) for metric in metrics]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{repeated} is given more than once")
        return metrics

    @field_validator("class_weight")
    @classmethod
    def _check_class_weight(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights and not any(weights):
            raise ValueError("give at least one weight above 0")
        return weights

    @field_validator("early_stopping", "reduce_lr_on_plateau")
    @classmethod
    def _check_monitor(cls, callback: _C, info: ValidationInfo) -> _C:
        if callback and callback.monitor.startswith("validation") and info.data.get("validation_split") == 0:
            raise ValueError(f"monitor: {callback.monitor} needs validation_split above 0; or choose loss")
        return callback

    @field_validator("reduce_lr_on_plateau")
    @classmethod
    def _check_constant_rate(cls, callback: ReduceLrOnPlateau | None, info: ValidationInfo) -> Any:
        optimizer = info.data.get("optimizer")
        if callback and optimizer and not isinstance(optimizer.learning_rate, int | float):
            raise ValueError("it needs an optimizer whose learning_rate is a number, not a schedule")
        return callback

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


def top_k(spec: TrainSpec) -> int | None:
    """The k of the top-k accuracy that the spec's metrics ask for: Keras' 5 where they only name it."""
    for metric in spec.metrics:
        if metric_name(metric) == "top_k_categorical_accuracy":
            return metric.k if isinstance(metric, TopK) else TopK().k
    return None


def keeps_best(spec: TrainSpec) -> bool:
    """Whether the best epoch's weights are kept until the training ends."""
    return spec.early_stopping is not None and spec.early_stopping.restore_best_weights
