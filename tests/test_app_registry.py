"""The registry publishes once, moves the default by a fair score, and holds under concurrent use."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from app import model_tables
from app.aliases import Candidate, Counts
from app.checkpoints import Checkpoints
from app.comparisons import compare
from app.database import SCHEMA, UNAVAILABLE, Database, NewerDatabaseError, queue_url
from app.errors import (
    AliasNotFoundError,
    CandidateError,
    ModelInUseError,
    ModelNotFoundError,
    ReservedAliasError,
    SupersededError,
    UnusableModelError,
)
from app.registry import Registry
from model import network as net
from model.checkpoint import from_bytes, to_bytes
from tests.postgresql import Postgresql
from tests.processes import ROOT, SOON_SECONDS
from tests.published import DATA, PARAMETERS, SPEC, evaluation, publish


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def test_a_run_publishes_one_model_however_often_it_tries(registry: Registry, checkpoints: Checkpoints) -> None:
    attempt = checkpoints.begin("run")

    def try_once(_: int) -> str:
        return registry.publish("run", SPEC, DATA, evaluation(0.9), None, attempt=attempt)

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(try_once, range(16)))
    assert [model.id for model in registry.models()] == list(ids)


def test_an_older_attempt_can_neither_save_nor_publish(registry: Registry, checkpoints: Checkpoints) -> None:
    older, newer = checkpoints.begin("run"), checkpoints.begin("run")
    checkpoints.save("run", newer, b"newer")
    with pytest.raises(SupersededError, match=f"attempt {older} at run run is not its newest"):
        checkpoints.save("run", older, b"older")
    with pytest.raises(SupersededError):
        registry.publish("run", SPEC, DATA, evaluation(0.9), None, attempt=older)
    assert (checkpoints.load("run"), registry.models()) == (b"newer", [])
    checkpoints.delete("run", older)
    assert checkpoints.load("run") == b"newer"
    registry.publish("run", SPEC, DATA, evaluation(0.9), None, attempt=newer)


def test_a_run_is_cancelled_or_published_and_never_both(registry: Registry, checkpoints: Checkpoints) -> None:
    attempt = checkpoints.begin("cancelled")
    assert registry.renounce("cancelled")
    with pytest.raises(SupersededError):
        registry.publish("cancelled", SPEC, DATA, evaluation(0.9), None, attempt=attempt)
    publish(registry, "published", 0.9)
    assert not registry.renounce("published")
    assert [model.run for model in registry.models()] == ["published"]


def test_parameters_come_back_as_they_were_published(registry: Registry) -> None:
    model, data = registry.parameters(publish(registry, "run", 0.9))
    spec, parameters = from_bytes(data)
    assert (registry.model(model).parameters, spec) == (7850, SPEC)
    jax.tree.map(np.testing.assert_array_equal, parameters, PARAMETERS)


def test_a_model_says_when_it_was_published(registry: Registry) -> None:
    before = datetime.now(UTC)
    publish(registry, "run", 0.9)
    assert before <= registry.models()[0].created_at <= datetime.now(UTC)


def test_parameters_that_were_damaged_in_the_database_are_refused(registry: Registry, database: Database) -> None:
    model = publish(registry, "run", 0.9)
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE models SET safetensors = :data"), {"data": DATA[:-1] + b"?"})
    with pytest.raises(UnusableModelError, match=f"model {model} cannot answer: its parameters are damaged"):
        registry.parameters(model)


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


def test_an_uploaded_model_is_there_once_and_never_the_default_by_itself(registry: Registry) -> None:
    trained = publish(registry, "a", 0.9)
    data = to_bytes(net.init(jax.random.key(1), SPEC.network), SPEC)
    assert registry.same(data) is None

    def try_once(_: int) -> tuple[str, bool]:
        return registry.add(data, SPEC, evaluation(1.0), "mine")

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(try_once, range(8)))
    (model,) = {model for model, _ in added}
    assert [new for _, new in added].count(True) == 1
    assert (registry.same(data), registry.parameters(model)) == (model, (model, data))
    assert (registry.model(model).run, registry.model(model).name) == (None, "mine")
    assert registry.default() == trained
    registry.pin_default(model)
    registry.delete(trained)
    registry.pin_default(None)  # nothing was trained that could follow
    assert (registry.default(), registry.model(model).pinned) == (model, False)
    assert publish(registry, "b", 0.5) == registry.default()


def test_models_are_found_by_name_whatever_it_holds(registry: Registry) -> None:
    names = ["100%", "100", "a_b", "a/b", "ab", "A\\B"]
    models = {name: publish(registry, name, 0.5, SPEC.model_copy(update={"name": name})) for name in names}
    for part, expected in (("%", ["100%"]), ("_", ["a_b"]), ("/", ["a/b"]), ("\\b", ["A\\B"]), ("AB", ["ab"])):
        assert [model.name for model in registry.models(name=part)] == expected
    by_name = [model.name for model in registry.models(sort="name", order="asc", limit=2)]
    assert by_name == ["100", "100%"]
    assert len(registry.models(sort="accuracy", offset=4)) == 2
    changed = registry.change(models["ab"], "AC", "said by ada")
    assert (changed.name, changed.description) == ("AC", "said by ada")
    assert registry.change("default", None, "").description == ""
    assert [model.id for model in registry.models(name="ac")] == [models["ab"]]


def test_models_whose_spec_this_version_refuses_are_compared(registry: Registry, database: Database) -> None:
    old, new = publish(registry, "old", 0.9), publish(registry, "new", 0.9)
    refused = {"optimizer": {"type": "sgd", "momentum": 0.9999999}}
    with database.writing() as connection:
        connection.execute(model_tables.models.update().where(model_tables.models.c.id == old).values(spec=refused))
    fields = {difference.field: difference.values for difference in compare(registry, [old, new]).differences}
    assert fields["spec.optimizer.momentum"] == [0.9999999, None]


def test_a_handful_of_validation_images_does_not_make_a_default(registry: Registry) -> None:
    solid = publish(registry, "a", 0.98)
    publish(registry, "lucky", 0.95, SPEC.model_copy(update={"validation_split": 4_999 / 60_000}), validation=1.0)
    assert registry.default() == solid
    sound = publish(registry, "sound", 0.95, SPEC.model_copy(update={"validation_split": 1 / 12}), validation=0.99)
    assert registry.default() == sound


def test_what_a_diverged_training_left_is_the_default_only_where_there_is_no_other(
    registry: Registry, checkpoints: Checkpoints
) -> None:
    attempt = checkpoints.begin("diverged")
    left = registry.publish("diverged", SPEC, DATA, evaluation(0.99), None, attempt=attempt, diverged=True)
    assert (registry.default(), registry.succeeded_with("diverged")) == (left, None)
    whole = publish(registry, "whole", 0.5)
    assert (registry.default(), registry.succeeded_with("whole")) == (whole, whole)


def test_what_is_not_there_is_named(registry: Registry) -> None:
    def point(name: str) -> None:
        registry.point("pens", name)

    every = (registry.model, registry.evaluation, registry.parameters, registry.delete, registry.pin_default, point)
    for use in (*every, registry.try_beside_default):
        for name in ("nothing", "nul\0", "\ud800", "n" * 10_000, ""):
            with pytest.raises(ModelNotFoundError):
                use(name)
    assert registry.aliases() == []
    with pytest.raises(AliasNotFoundError, match="'nothing'"):
        registry.drop("nothing")


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


def test_an_alias_names_a_model_guards_it_and_moves(registry: Registry) -> None:
    one, other = publish(registry, "a", 0.9), publish(registry, "b", 0.95)
    assert registry.point("pens", one).model == one
    assert registry.point("room-12", "pens").model == one
    assert registry.point("pens", other).model == other
    assert registry.model("room-12").aliases == ["room-12"]
    assert [(alias.name, alias.model) for alias in registry.aliases()] == [
        ("default", other),
        ("pens", other),
        ("room-12", one),
    ]
    with pytest.raises(ModelInUseError, match=f"model {one} is 'room-12'"):
        registry.delete(one)
    registry.drop("room-12")
    registry.delete(one)
    with pytest.raises(AliasNotFoundError, match="'room-12'"):
        registry.drop("room-12")


@pytest.mark.parametrize("name", ["default", "candidate", "compare", "abcdefabcdef"])
def test_a_name_with_another_meaning_is_no_alias(registry: Registry, name: str) -> None:
    model = publish(registry, "a", 0.9)
    for change in (lambda: registry.point(name, model), lambda: registry.drop(name)):
        with pytest.raises(ReservedAliasError, match=f"'{name}'"):
            change()
    assert [alias.name for alias in registry.aliases()] == ["default"]


def test_a_candidate_is_tried_until_it_is_dropped_or_the_default(registry: Registry) -> None:
    best, worse, other = publish(registry, "a", 0.9), publish(registry, "b", 0.8), publish(registry, "c", 0.7)
    assert registry.candidate() is None
    registry.try_beside_default(worse, share=0.25)
    assert (registry.candidate(), registry.model("candidate").id) == (Candidate(worse, 0.25, False), worse)
    with pytest.raises(ModelInUseError, match=f"model {worse} is 'candidate'"):
        registry.delete(worse)
    registry.try_beside_default(other, shadow=True)
    assert registry.candidate() == Candidate(other, 0.0, True)
    with pytest.raises(CandidateError, match=f"model {best} is the default already"):
        registry.try_beside_default(best, share=0.5)
    assert registry.candidate() == Candidate(other, 0.0, True)
    registry.pin_default(worse)
    assert registry.candidate() == Candidate(other, 0.0, True)
    registry.pin_default("candidate")
    assert (registry.default(), registry.candidate()) == (other, None)
    registry.try_beside_default(best, share=1.0)
    registry.pin_default(None)
    assert (registry.default(), registry.candidate()) == (best, None)
    registry.try_beside_default(worse, share=1.0)
    registry.try_beside_default(None)
    assert registry.candidate() is None


def test_what_is_counted_for_a_trial_that_has_ended_is_forgotten(registry: Registry) -> None:
    publish(registry, "best", 0.99)
    worse = publish(registry, "worse", 0.9)
    assert registry.candidate_counts() == Counts()
    registry.try_beside_default(worse, share=0.1)
    for _ in range(2):
        registry.count(Candidate(worse, 0.1, False), Counts(1, 3, 2))
    registry.count(Candidate(worse, 0.2, False), Counts(5, 5, 5))
    assert registry.candidate_counts() == Counts(2, 6, 4)
    registry.try_beside_default(worse, shadow=True)
    registry.count(Candidate(worse, 0.1, False), Counts(1, 3, 2))
    assert registry.candidate_counts() == Counts()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # on SQLite, one looks after a while
def test_whoever_waits_for_news_hears_of_a_candidate(registry: Registry) -> None:
    publish(registry, "a", 0.9)
    model = publish(registry, "b", 0.8)
    with closing(registry.news()) as news, ThreadPoolExecutor(1) as pool:
        news.wait(0.1)  # it listens from now on
        heard = pool.submit(news.wait, 2 * SOON_SECONDS)
        registry.try_beside_default(model, shadow=True)
        heard.result(SOON_SECONDS)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "trouble", ["SET LOCAL idle_in_transaction_session_timeout = '50ms'", "SET LOCAL transaction_read_only = on"]
)
def test_a_database_that_ends_a_transaction_or_takes_none_is_away_for_a_while(
    database: Database, registry: Registry, trouble: str
) -> None:
    def attempt() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql(trouble)
            time.sleep(0.3)
            connection.execute(sa.text("DELETE FROM models"))

    with pytest.raises(UNAVAILABLE):
        attempt()
    assert registry.models() == []


def test_aliases_changed_at_once_leave_each_name_with_one_model_that_is_there(registry: Registry) -> None:
    publish(registry, "best", 0.99)
    models = [publish(registry, f"run {number}", 0.5) for number in range(8)]

    def attempt(number: int) -> None:
        model = models[number % len(models)]
        changes = (
            lambda: registry.point("pens", model),
            lambda: registry.try_beside_default(model, share=0.5),
            lambda: registry.pin_default(model if number % 3 else None),
            lambda: registry.drop("pens"),
            lambda: registry.delete(model),
        )
        with suppress(ModelInUseError, ModelNotFoundError, AliasNotFoundError, CandidateError):
            changes[number % len(changes)]()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(160)))
    there = {model.id for model in registry.models()}
    aliases = {alias.name: alias.model for alias in registry.aliases()}
    assert set(aliases.values()) <= there
    assert "default" in aliases and aliases["default"] != aliases.get("candidate")


def test_several_processes_can_migrate_a_new_database_at_once(database_url: str) -> None:
    command = [sys.executable, "-c", f"from app.database import Database; Database({database_url!r}).migrate()"]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(180) for process in processes] == [0] * 4
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


def migrate_to(database: Database, revision: str) -> None:
    """As `Database.migrate` does, but not to the newest."""
    config = Config()
    config.set_main_option("script_location", "app:migrations")
    with database.writing() as connection:
        if database.is_postgresql:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_a_server_that_was_set_up_without_a_locale_will_do(postgresql: Postgresql) -> None:
    url = postgresql.new_database("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(queue_url(url)) as queue:
        assert queue.execute("SELECT 'Ä'::text").fetchone() == ("Ä",)
    database = Database(url)
    database.migrate()
    registry = Registry(database)
    assert registry.change(publish(registry, "a run", 0.9), "Äpfel", None).name == "Äpfel"
    database.close()


def test_a_database_of_a_newer_version_is_said_to_be_one(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabaseError, match="a newer version has changed this database"):
        database.migrate()
    database.close()


def test_a_database_without_uploads_and_candidates_keeps_what_it_has(database_url: str) -> None:
    database = Database(database_url)
    migrate_to(database, "0002")
    blob = bytes(range(256)) * 4_000
    with database.writing() as connection:
        for number in range(3):
            connection.execute(OLD_MODEL, {"id": f"00000000000{number}", "run": f"run {number}", "blob": blob})
        connection.execute(sa.text("INSERT INTO aliases VALUES ('default', '000000000001', true)"))
        connection.execute(
            sa.text("INSERT INTO checkpoints (run, attempt, data) VALUES ('waiting', 3, :b)"), {"b": b"c"}
        )
    database.migrate()

    registry, checkpoints = Registry(database), Checkpoints(database)
    default = registry.model("default")
    assert (default.id, default.run, default.description, default.pinned) == ("000000000001", "run 1", "", True)
    assert default.created_at.isoformat() == "2026-11-24T12:00:00+00:00"
    assert (registry.candidate(), checkpoints.load("waiting"), checkpoints.begin("waiting")) == (None, b"c", 4)
    with database.reading() as connection:
        assert set(connection.scalars(sa.text("SELECT safetensors FROM models"))) == {blob}
    for refused in (
        OLD_MODEL.bindparams(id="000000000009", run="run 1", blob=b""),  # a run publishes once
        sa.text("DELETE FROM models WHERE id = '000000000001'"),  # an alias points to it
    ):
        with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
            connection.execute(refused)
    registry.try_beside_default("000000000002", share=0.1)
    registry.delete("000000000000")
    assert publish(registry, "new", 0.99) == registry.models()[0].id
    database.close()


OLD_MODEL = sa.text(
    "INSERT INTO models (id, run, name, created_at, spec, parameters, loss, accuracy, score, evaluation, sha256,"
    " safetensors) VALUES (:id, :run, 'old', '2026-11-24 12:00:00.000000', '{}', 10, 0.1, 0.9, 0.9, '{}', 'x', :blob)"
)

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
