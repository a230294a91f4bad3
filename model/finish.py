"""From trained parameters to what is published: calibrated, evaluated, as bytes."""

from pathlib import Path
from typing import NamedTuple

from model import network as net
from model.checkpoint import to_bytes
from model.confidence import fit_confidence
from model.data import Mnist
from model.evaluate import evaluate
from model.losses import DivergedError
from model.memory import NotEnoughMemoryError, advised_on_memory
from model.scores import Evaluation
from model.spec import TrainSpec


class Finished(NamedTuple):
    data: bytes  # a safetensors file, see model.checkpoint
    evaluation: Evaluation  # on the test set


def finished(
    parameters: net.NetworkParameters,
    spec: TrainSpec,
    mnist: Mnist,
    cache_dir: Path | None = None,
    *,
    last_good: net.NetworkParameters | None = None,
) -> Finished:
    """The same parameters and spec give the same bytes on the same `hardware`, whatever cache_dir has already.

    Raises DivergedError, with last_good, for outputs that are not finite, and NotEnoughMemoryError. Without held-out
    images, this is the first place where the last step's outputs are looked at.
    """
    try:
        with advised_on_memory(spec):
            confidence = fit_confidence(parameters, spec, mnist.train, cache_dir)
            evaluation = evaluate(parameters, mnist.test, spec, confidence)
            scores = {"loss": evaluation.loss, "accuracy": evaluation.accuracy}
            return Finished(to_bytes(parameters, spec, confidence, scores), evaluation)
    except DivergedError as error:
        raise DivergedError(f"after the last step, {error}", last_good) from None


def salvaged(error: DivergedError, spec: TrainSpec, mnist: Mnist, cache_dir: Path | None = None) -> Finished | None:
    """What a diverged training's last good parameters give; None where it had none, or they cannot be finished."""
    if error.last_good is None:
        return None
    try:
        return finished(error.last_good, spec, mnist, cache_dir)
    except (DivergedError, NotEnoughMemoryError):
        return None
