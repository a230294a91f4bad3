"""What is decided after an epoch, on the host: when to stop, and how far to lower the learning rate."""

from pydantic import BaseModel, ConfigDict

from model.reports import EpochReport
from model.spec_callbacks import EarlyStopping, Monitor, ReduceLrOnPlateau


class Patience(BaseModel):
    """What a monitor remembers from epoch to epoch."""

    model_config = ConfigDict(extra="forbid")

    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0  # epochs without improvement
    cooldown_left: int = 0


def watch(patience: Patience, report: EpochReport, callback: EarlyStopping | ReduceLrOnPlateau) -> Patience:
    """After an epoch: the best number so far, where it was, and how many epochs have not improved on it."""
    value = getattr(report, callback.monitor)
    if patience.best is None or _gain(value, patience.best, callback.monitor) > callback.min_delta:
        return patience.model_copy(update={"best": value, "best_epoch": report.epoch, "waited": 0})
    return patience.model_copy(update={"waited": patience.waited + 1})


def _gain(value: float, best: float, monitor: Monitor) -> float:
    return value - best if monitor.endswith("accuracy") else best - value


def stops(patience: Patience, callback: EarlyStopping) -> bool:
    """Keras' rule: as many epochs without improvement as `patience` says, and at least one."""
    return patience.waited >= max(callback.patience, 1)


def reduced(
    patience: Patience, report: EpochReport, callback: ReduceLrOnPlateau, learning_rate: float
) -> tuple[Patience, float]:
    """The learning rate from now on. Keras' rule: the wait begins anew in a cooldown, whose last epoch counts."""
    left = max(patience.cooldown_left - 1, 0)
    watched = watch(patience, report, callback).model_copy(update={"cooldown_left": left})
    if patience.cooldown_left and watched.waited:
        watched = watched.model_copy(update={"waited": 0 if left else 1})
    if watched.waited < max(callback.patience, 1) or learning_rate <= callback.min_lr:
        return watched, learning_rate
    lowered = max(learning_rate * callback.factor, callback.min_lr)
    return watched.model_copy(update={"cooldown_left": callback.cooldown, "waited": 0}), lowered
