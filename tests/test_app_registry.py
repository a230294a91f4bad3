"""The registry publishes once, moves the default by a fair score, and holds under concurrent use."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest

from app.checkpoints import Checkpoints
from app.database import Database
from app.errors import ModelInUseError, ModelNotFoundError, SupersededError
from app.registry import Registry
from model import network as net
from model.checkpoint import from_bytes
from model.scores import Calibration, Evaluation, MeanScores
from model.spec import TrainSpec
from model.spec_layers import Dense, Flatten
from tests.processes import ROOT

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
    attempt = Checkpoints(registry._database).begin(run)
    return registry.publish(run, spec, PARAMETERS, evaluation(accuracy), scores, attempt=attempt)


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def test_a_run_publishes_one_model_however_often_it_tries(registry: Registry, checkpoints: Checkpoints) -> None:
    attempt = checkpoints.begin("run")

    def try_once(_: int) -> str:
        return registry.publish("run", SPEC, PARAMETERS, evaluation(0.9), None, attempt=attempt)

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(try_once, range(16)))
    assert [model.id for model in registry.models()] == list(ids)


def test_an_older_attempt_can_neither_save_nor_publish(registry: Registry, checkpoints: Checkpoints) -> None:
    older, newer = checkpoints.begin("run"), checkpoints.begin("run")
    checkpoints.save("run", newer, b"newer")
    with pytest.raises(SupersededError, match=f"attempt {older} at run run is not its newest"):
        checkpoints.save("run", older, b"older")
    with pytest.raises(SupersededError):
        registry.publish("run", SPEC, PARAMETERS, evaluation(0.9), None, attempt=older)
    assert (checkpoints.load("run"), registry.models()) == (b"newer", [])
    checkpoints.delete("run", older)
    assert checkpoints.load("run") == b"newer"
    registry.publish("run", SPEC, PARAMETERS, evaluation(0.9), None, attempt=newer)


def test_a_run_is_cancelled_or_published_and_never_both(registry: Registry, checkpoints: Checkpoints) -> None:
    attempt = checkpoints.begin("cancelled")
    assert registry.renounce("cancelled")
    with pytest.raises(SupersededError):
        registry.publish("cancelled", SPEC, PARAMETERS, evaluation(0.9), None, attempt=attempt)
    publish(registry, "published", 0.9)
    assert not registry.renounce("published")
    assert [model.run for model in registry.models()] == ["published"]


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


def test_several_processes_can_migrate_a_new_database_at_once(database_url: str) -> None:
    command = [sys.executable, "-c", f"from app.database import Database; Database({database_url!r}).migrate()"]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    database = Database(database_url)
    assert Registry(database).models() == []
    database.close()


def test_a_database_of_the_version_before_migrations_keeps_its_models(tmp_path: Path) -> None:
    path = tmp_path / "inkling.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(BEFORE_MIGRATIONS)
    connection.close()
    database = Database(f"sqlite:///{path}")
    database.migrate()
    checkpoints = Checkpoints(database)
    assert checkpoints.load("waiting") == b"checkpoint"
    checkpoints.save("waiting", checkpoints.begin("waiting"), b"newer")
    (model,) = Registry(database).models()
    assert (model.id, model.aliases) == ("0123456789ab", ["default"])
    database.close()


# What the version before wrote.
BEFORE_MIGRATIONS = """
CREATE TABLE models (
    id VARCHAR(32) NOT NULL, run VARCHAR(64) NOT NULL, name VARCHAR(100) NOT NULL, created_at DATETIME NOT NULL,
    spec JSON NOT NULL, parameters INTEGER NOT NULL, loss FLOAT NOT NULL, accuracy FLOAT NOT NULL,
    score FLOAT NOT NULL, validation_loss FLOAT, validation_accuracy FLOAT, evaluation JSON NOT NULL,
    sha256 VARCHAR(64) NOT NULL, safetensors BLOB NOT NULL, PRIMARY KEY (id), UNIQUE (run)
);
CREATE TABLE aliases (
    name VARCHAR(32) NOT NULL, model VARCHAR(32) NOT NULL, pinned BOOLEAN NOT NULL, PRIMARY KEY (name),
    FOREIGN KEY(model) REFERENCES models (id)
);
CREATE TABLE checkpoints (run VARCHAR(64) NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run));
INSERT INTO models VALUES (
    '0123456789ab', 'run', 'old', '2026-11-24 12:00:00.000000', '{}', 10, 0.1, 0.9, 0.9, NULL, NULL, '{}', 'x', x'00'
);
INSERT INTO aliases VALUES ('default', '0123456789ab', 0);
INSERT INTO checkpoints VALUES ('waiting', CAST('checkpoint' AS BLOB));
"""
