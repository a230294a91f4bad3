"""The registry publishes once, moves the default by a fair score, and holds under concurrent use."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest

from app.errors import ModelInUseError, ModelNotFoundError
from app.registry import Registry
from model import network as net
from model.checkpoint import from_bytes
from model.evaluate import Calibration, Evaluation, MeanScores
from model.spec import TrainSpec
from model.spec_layers import Dense, Flatten

SPEC = TrainSpec(network=(Flatten(), Dense(units=10, activation="softmax")))
PARAMETERS = net.init(jax.random.key(0), SPEC.network)


def evaluation(accuracy: float) -> Evaluation:
    calibration = Calibration(expected_calibration_error=0, bins=[])
    return Evaluation(
        loss=1 - accuracy, accuracy=accuracy, per_class=[], confusion_matrix=[], calibration=calibration, hardest=[]
    )


def publish(
    registry: Registry, run: str, accuracy: float, spec: TrainSpec = SPEC, validation: float | None = None
) -> str:
    scores = None if validation is None else MeanScores(0.1, validation)
    return registry.publish(run, spec, PARAMETERS, evaluation(accuracy), scores)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "inkling.db")


def test_a_run_publishes_one_model_however_often_it_tries(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: publish(registry, "run", 0.9), range(16)))
    assert [model.id for model in registry.models()] == list(ids)


def test_parameters_come_back_as_they_were_published(registry: Registry) -> None:
    model, data = registry.parameters(publish(registry, "run", 0.9))
    spec, parameters = from_bytes(data)
    assert (registry.model(model).parameters, spec) == (7850, SPEC)
    jax.tree.map(np.testing.assert_array_equal, parameters, PARAMETERS)


def test_the_default_is_the_best_until_one_is_pinned(registry: Registry) -> None:
    good, better = publish(registry, "a", 0.9), publish(registry, "b", 0.95)
    worse = publish(registry, "c", 0.5)
    assert registry.default() == better
    registry.pin_default(worse)
    publish(registry, "d", 0.99)
    assert (registry.default(), registry.model("default").id) == (worse, worse)
    with pytest.raises(ModelInUseError, match=f"model {worse} is 'default'"):
        registry.delete("default")
    registry.pin_default(None)
    assert registry.default() not in (good, better, worse)


def test_a_handful_of_validation_images_does_not_make_a_default(registry: Registry) -> None:
    solid = publish(registry, "a", 0.98)
    publish(registry, "lucky", 0.95, SPEC.model_copy(update={"validation_split": 0.001}), validation=1.0)
    assert registry.default() == solid
    sound = publish(registry, "sound", 0.95, SPEC.model_copy(update={"validation_split": 0.1}), validation=0.99)
    assert registry.default() == sound


def test_what_is_not_there_is_named(registry: Registry) -> None:
    for use in (registry.model, registry.evaluation, registry.parameters, registry.delete, registry.pin_default):
        with pytest.raises(ModelNotFoundError, match="'nothing'"):
            use("nothing")


def test_deleting_and_pinning_at_once_leave_no_alias_without_a_model(registry: Registry) -> None:
    publish(registry, "best", 0.99)

    def attempt(act: Callable[[str], None], model: str) -> None:
        with suppress(ModelInUseError, ModelNotFoundError):
            act(model)

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            model = publish(registry, f"run {number}", 0.5)
            list(pool.map(attempt, [registry.delete, registry.pin_default] * 4, [model] * 8))
            assert registry.model("default").id == registry.default()
            registry.pin_default(None)


def test_several_processes_can_open_a_new_registry_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        counts = pool.map(models_in, [tmp_path / "inkling.db"] * 8)
    assert counts == [0] * 8


def models_in(path: Path) -> int:
    return len(Registry(path).models())
