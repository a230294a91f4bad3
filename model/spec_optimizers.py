"""How the gradient changes the parameters: optimizers and learning-rate schedules, with Keras 3's names and defaults.

The formulas are in `model.optimizers`; all are Keras' own, so that the same numbers train the same way.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from model.spec_base import LARGEST_MOMENTUM, Kind

MAX_RATE = 10.0
MAX_STEPS = 60_000_000  # every training image a mini-batch of its own, for as many epochs as a run may have

_A_NUMBER = f"Input should be a number above 0, at most {MAX_RATE:g}"

Rate = Annotated[float, Field(strict=True, gt=0.0, le=MAX_RATE)]
Decay = Annotated[float, Field(ge=0.0, le=LARGEST_MOMENTUM)]
WarmupSteps = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_STEPS,
        description="Steps in which the learning rate first rises in a line from 0; the schedule starts behind them",
        examples=[500],
    ),
]


class Constant(Kind):
    """The same learning rate at every step, which may begin with a warm-up (Goyal et al. 2017, section 2.2)."""

    type: Literal["constant"] = Field("constant", description="The kind of schedule", examples=["constant"])
    learning_rate: Rate = Field(description="At every step", examples=[0.001])
    warmup_steps: WarmupSteps = 0


class StepDecay(Kind):
    """Multiplied by `drop` every `epochs_drop` epochs: initial_learning_rate · drop^floor(epoch / epochs_drop).

    What Keras users write as `step_decay` for `LearningRateScheduler`. Its epochs count from the warm-up's end.
    """

    type: Literal["step_decay"] = Field("step_decay", description="The kind of schedule", examples=["step_decay"])
    initial_learning_rate: Rate = Field(description="Until the first drop", examples=[0.01])
    drop: float = Field(0.5, gt=0.0, lt=1.0, description="What each drop multiplies it by", examples=[0.5])
    epochs_drop: int = Field(10, ge=1, le=1_000, description="Epochs from one drop to the next", examples=[10])
    warmup_steps: WarmupSteps = 0


class ExponentialDecay(Kind):
    """initial_learning_rate · decay_rate^(step / decay_steps): Keras' `ExponentialDecay`."""

    type: Literal["exponential_decay"] = Field(
        "exponential_decay", description="The kind of schedule", examples=["exponential_decay"]
    )
    initial_learning_rate: Rate = Field(description="At the first step", examples=[0.01])
    decay_rate: float = Field(gt=0.0, le=1.0, description="What `decay_steps` multiply it by", examples=[0.9])
    decay_steps: int | None = Field(
        None,
        ge=1,
        le=MAX_STEPS,
        description="Steps of one decay; null: the whole run behind the warm-up",
        examples=[600],
    )
    staircase: bool = Field(False, description="Decay at once at the end of `decay_steps`", examples=[False])
    warmup_steps: WarmupSteps = 0


class CosineDecay(Kind):
    """From `initial_learning_rate` along half a cosine to `alpha` times it at the end of the run.

    Loshchilov & Hutter, SGDR (2017), eq. 5 without restarts; Keras' `CosineDecay` over all the run's steps. With a
    warm-up, `initial_learning_rate` is the rate that it rises to (Keras' `warmup_target`).
    """

    type: Literal["cosine_decay"] = Field("cosine_decay", description="The kind of schedule", examples=["cosine_decay"])
    initial_learning_rate: Rate = Field(description="At the first step", examples=[0.002])
    alpha: float = Field(
        0.0, ge=0.0, le=1.0, description="Final learning rate, as a share of the first", examples=[0.0]
    )
    warmup_steps: WarmupSteps = 0


class OneCycle(Kind):
    """Up to `max_learning_rate` and down to almost nothing, along half a cosine each (Smith & Topin 2018).

    PyTorch's `OneCycleLR` with its defaults over all the run's steps; the momentum stays as it is.
    """

    type: Literal["one_cycle"] = Field("one_cycle", description="The kind of schedule", examples=["one_cycle"])
    max_learning_rate: Rate = Field(description="At the peak", examples=[0.01])
    pct_start: float = Field(0.3, gt=0.0, lt=1.0, description="Share of the steps that go up", examples=[0.3])
    div_factor: float = Field(
        25.0, ge=1.0, le=1e6, description="The peak, divided by it, is the first learning rate", examples=[25.0]
    )
    final_div_factor: float = Field(
        1e4, ge=1.0, le=1e9, description="The first learning rate, divided by it, is the last", examples=[1e4]
    )


def _check_number(rate: Any) -> Any:
    """Here, since who has given a number, or left it out, need not be told of schedules."""
    if rate is None or (isinstance(rate, int | float) and not 0 < rate <= MAX_RATE):
        raise ValueError(_A_NUMBER)
    return rate


def _kind(rate: Any) -> str | None:
    """Which member of LearningRate is meant, so that an error names only that one's fields."""
    if isinstance(rate, int | float):
        return "number"
    kind = rate.get("type") if isinstance(rate, dict) else getattr(rate, "type", None)
    return kind if isinstance(kind, str) else None


LearningRate = Annotated[
    Annotated[Rate, Tag("number")]
    | Annotated[Constant, Tag("constant")]
    | Annotated[StepDecay, Tag("step_decay")]
    | Annotated[ExponentialDecay, Tag("exponential_decay")]
    | Annotated[CosineDecay, Tag("cosine_decay")]
    | Annotated[OneCycle, Tag("one_cycle")],
    Discriminator(
        _kind,
        custom_error_type="learning_rate_type",
        custom_error_message=f"{_A_NUMBER}, or a schedule whose type is "
        "'constant', 'step_decay', 'exponential_decay', 'cosine_decay' or 'one_cycle'",
    ),
    BeforeValidator(_check_number),
]


class OptimizerSpec(Kind):
    """What every optimizer has: a learning rate, weight decay, and clipping of the gradient before it is used."""

    type: str
    learning_rate: LearningRate = Field(0.001, description="Step size, or a schedule of it", examples=[0.001])
    weight_decay: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="Each step also shrinks every parameter by this share times the learning rate; null: not at all",
        examples=[0.004],
    )
    clipnorm: float | None = Field(
        None, gt=0.0, le=1e6, description="Largest L2 norm of each parameter tensor's gradient", examples=[1.0]
    )
    clipvalue: float | None = Field(
        None, gt=0.0, le=1e6, description="Largest size of each number in the gradient", examples=[0.5]
    )
    global_clipnorm: float | None = Field(
        None, gt=0.0, le=1e6, description="Largest L2 norm of the whole gradient", examples=[1.0]
    )

    @field_validator("clipvalue", "global_clipnorm")
    @classmethod
    def _check_one_clip(cls, clip: float | None, info: ValidationInfo) -> float | None:
        others = [name for name in ("clipnorm", "clipvalue") if info.data.get(name) is not None]
        if clip is not None and others:
            raise ValueError(f"Input should be null beside {others[0]}; one way of clipping at a time")
        return clip


class Sgd(OptimizerSpec):
    """Gradient descent, with momentum and Nesterov's variant. The velocity is of steps, their learning rate inside."""

    type: Literal["sgd"] = Field("sgd", description="The kind of optimizer", examples=["sgd"])
    learning_rate: LearningRate = Field(0.01, description="Step size, or a schedule of it", examples=[0.01])
    momentum: Decay = Field(0.0, description="Share of the last step that is kept", examples=[0.9])
    nesterov: bool = Field(False, description="Look ahead along the momentum", examples=[False])


_EPSILON = Field(1e-7, ge=1e-12, le=1.0, description="Keeps the divisor above zero", examples=[1e-7])


class RmsProp(OptimizerSpec):
    """The gradient over the root of its mean square (Hinton 2012, lecture 6e; centered: Graves 2013, eq. 40)."""

    type: Literal["rmsprop"] = Field("rmsprop", description="The kind of optimizer", examples=["rmsprop"])
    rho: Decay = Field(0.9, description="Decay of the squared gradient's mean", examples=[0.9])
    momentum: Decay = Field(0.0, description="Share of the last step that is kept", examples=[0.9])
    epsilon: float = _EPSILON
    centered: bool = Field(
        False, description="Divide by the gradient's standard deviation, not by its root mean square", examples=[False]
    )


class Adagrad(OptimizerSpec):
    """The gradient over the root of the sum of its squares so far (Duchi et al. 2011)."""

    type: Literal["adagrad"] = Field("adagrad", description="The kind of optimizer", examples=["adagrad"])
    initial_accumulator_value: float = Field(
        0.1, ge=0.0, le=1e6, description="What the sum of squares starts with", examples=[0.1]
    )
    epsilon: float = _EPSILON


class Adadelta(OptimizerSpec):
    """Steps as large as the last ones were (Zeiler 2012, algorithm 1). His own learning rate is 1, Keras' is 0.001."""

    type: Literal["adadelta"] = Field("adadelta", description="The kind of optimizer", examples=["adadelta"])
    rho: Decay = Field(0.95, description="Decay of the squared gradient's and squared step's means", examples=[0.95])
    epsilon: float = _EPSILON


class _Moments(OptimizerSpec):
    """The members that Adam and its relatives share."""

    beta_1: Decay = Field(0.9, description="Decay of the gradient's mean", examples=[0.9])
    beta_2: Decay = Field(0.999, description="Decay of the squared gradient's mean", examples=[0.999])
    epsilon: float = _EPSILON


class Adam(_Moments):
    """Kingma & Ba (2015), in the order of computation at the end of their section 2, where epsilon has Keras' place."""

    type: Literal["adam"] = Field("adam", description="The kind of optimizer", examples=["adam"])


class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

    type: Literal["adamw"] = Field("adamw", description="The kind of optimizer", examples=["adamw"])
    weight_decay: float = Field(
        0.004,
        ge=0.0,
        le=1.0,
        description="Each step also shrinks every parameter by this share times the learning rate",
        examples=[0.004],
    )


class Adamax(_Moments):
    """Adam with the largest gradient in place of the root mean square (Kingma & Ba 2015, algorithm 2)."""

    type: Literal["adamax"] = Field("adamax", description="The kind of optimizer", examples=["adamax"])
    beta_2: Decay = Field(0.999, description="Decay of the largest gradient", examples=[0.999])


class Nadam(_Moments):
    """Adam with Nesterov's momentum, which rises from about half of beta_1 to it (Dozat 2016, algorithm 2)."""

    type: Literal["nadam"] = Field("nadam", description="The kind of optimizer", examples=["nadam"])


class Lion(OptimizerSpec):
    """The sign of a mean gradient (Chen et al. 2023, algorithm 2): each parameter moves by the learning rate."""

    type: Literal["lion"] = Field("lion", description="The kind of optimizer", examples=["lion"])
    beta_1: Decay = Field(0.9, description="Share of the mean in the step, beside the gradient's", examples=[0.9])
    beta_2: Decay = Field(0.99, description="Decay of the gradient's mean", examples=[0.99])


OptimizerName = Literal["sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "nadam", "adamw", "lion"]
_ByType = Annotated[
    Sgd | RmsProp | Adagrad | Adadelta | Adam | Adamax | Nadam | AdamW | Lion, Field(discriminator="type")
]
Optimizer = Annotated[
    _ByType,
    BeforeValidator(
        lambda given: {"type": given} if isinstance(given, str) else given,  # as Keras' compile() takes it
        json_schema_input_type=OptimizerName | _ByType,
    ),
]
