"""Models published without a training."""

import jax

from app.checkpoints import Checkpoints
from app.registry import Registry
from model import network as net
from model.checkpoint import to_bytes
from model.scores import Calibration, Evaluation, MeanScores
from model.spec import TrainSpec
from model.spec_layers import Dense, Flatten

SPEC = TrainSpec(network=(Flatten(), Dense(units=10, activation="softmax")))
PARAMETERS = net.init(jax.random.key(0), SPEC.network)
DATA = to_bytes(PARAMETERS, SPEC)


def evaluation(accuracy: float) -> Evaluation:
    calibration = Calibration(expected_calibration_error=0, bins=[])
    return Evaluation(
        loss=1 - accuracy, accuracy=accuracy, per_class=[], confusion_matrix=[], calibration=calibration, hardest=[]
    )


def publish(
    registry: Registry,
    run: str,
    accuracy: float,
    spec: TrainSpec = SPEC,
    validation: float | None = None,
    parameters: net.NetworkParameters = PARAMETERS,
) -> str:
    scores = None if validation is None else MeanScores(0.1, validation)
    attempt = Checkpoints(registry._database).begin(run)
    data = to_bytes(parameters, spec)
    return registry.publish(run, spec, data, evaluation(accuracy), scores, attempt=attempt)
