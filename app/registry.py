"""Published models and their aliases: publish, list, load, delete, choose the default.

A model is one immutable row: its spec, scores and parameters (safetensors bytes). It is published by one INSERT, once
a run.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.checkpoints import end_attempt, require_attempt
from app.database import Database, Listener, metadata
from app.errors import ModelInUseError, ModelNotFoundError
from app.schemas import ModelInfo, Scores
from model import network as net
from model.checkpoint import CheckpointError, to_bytes
from model.data import TRAIN_EXAMPLES, examples_left
from model.scores import Evaluation, MeanScores
from model.spec import TrainSpec

DEFAULT = "default"
CHANNEL = "inkling_default"  # says that the default is another
ENOUGH_VALIDATION_IMAGES = 5_000  # fewer tell models apart by luck

_models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("run", sa.String(64), nullable=False, unique=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("parameters", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("accuracy", sa.Float, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("validation_loss", sa.Float),
    sa.Column("validation_accuracy", sa.Float),
    sa.Column("evaluation", sa.JSON, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("safetensors", sa.LargeBinary, nullable=False),
)
_aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("model", sa.ForeignKey("models.id"), nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
)


class Registry:
    """The models and aliases of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(
        self,
        run: str,
        spec: TrainSpec,
        parameters: net.NetworkParameters,
        evaluation: Evaluation,
        validation: MeanScores | None,
        *,
        attempt: int,
        diverged: bool = False,
    ) -> str:
        """Adds the run's model, the default if it is the best, and returns its id; a second call adds nothing.

        One that a diverged training left becomes the default only where there is no other. Raises SupersededError for
        an attempt that is not the run's newest.
        """
        data = to_bytes(parameters, spec)
        row = {
            "id": secrets.token_hex(6),
            "run": run,
            "name": spec.name,
            "created_at": datetime.now(UTC),
            "spec": spec.model_dump(mode="json"),
            "parameters": net.parameter_count(spec.network),
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy,
            "evaluation": evaluation.model_dump(mode="json"),
            "score": -1.0 if diverged else _score(spec, evaluation, validation),
            "validation_loss": validation and validation.loss,
            "validation_accuracy": validation and validation.accuracy,
            "sha256": hashlib.sha256(data).hexdigest(),
            "safetensors": data,
        }
        with self._writing() as connection:
            require_attempt(connection, run, attempt)
            if existing := _published(connection, run):
                return existing
            connection.execute(_models.insert().values(row))
            _follow_the_best(connection)
        return str(row["id"])

    def published(self, run: str) -> str | None:
        """The id of the model that a training of the run has published, to its end."""
        query = sa.select(_models.c.id).where(_models.c.run == run, _models.c.score >= 0)
        with self._database.reading() as connection:
            return connection.scalar(query)

    def renounce(self, run: str) -> bool:
        """Whether the run has published nothing, and from now on cannot: its attempt has ended."""
        with self._database.writing("registry") as connection:
            if _published(connection, run):
                return False
            end_attempt(connection, run)
        return True

    def models(self) -> list[ModelInfo]:
        """Every model, newest first."""
        with self._database.reading() as connection:
            return _infos(connection, sa.select(*_INFO).order_by(_models.c.created_at.desc()))

    def model(self, name: str) -> ModelInfo:
        """name: an id or an alias. Raises ModelNotFoundError."""
        with self._database.reading() as connection:
            infos = _infos(connection, sa.select(*_INFO).where(_models.c.id == _resolve(connection, name)))
        if not infos:  # deleted since its name was resolved
            raise ModelNotFoundError(name)
        return infos[0]

    def evaluation(self, name: str) -> tuple[str, Evaluation]:
        """The id of the model that `name` stands for, and its report."""
        model, report = self._row(name, _models.c.id, _models.c.evaluation)
        return model, Evaluation.model_validate(report)

    def parameters(self, name: str) -> tuple[str, bytes]:
        """The id of the model that `name` stands for, and its safetensors bytes, checked against their SHA-256."""
        model, data, sha256 = self._row(name, _models.c.id, _models.c.safetensors, _models.c.sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CheckpointError(f"the parameters of model {model} are damaged: their SHA-256 is not {sha256}")
        return model, data

    def default(self) -> str | None:
        """The id of the default model."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(_aliases.c.model).where(_aliases.c.name == DEFAULT))

    def pin_default(self, name: str | None) -> None:
        """Makes a model the default until it is unpinned; None unpins and makes the best model the default."""
        with self._writing() as connection:
            model = name and _resolve(connection, name)
            connection.execute(_aliases.delete().where(_aliases.c.name == DEFAULT))
            if model:
                connection.execute(_aliases.insert().values(name=DEFAULT, model=model, pinned=True))
            else:
                _follow_the_best(connection)

    def delete(self, name: str) -> None:
        """Raises ModelInUseError while an alias points to the model."""
        with self._writing() as connection:
            model = _resolve(connection, name)
            if alias := connection.scalar(sa.select(_aliases.c.name).where(_aliases.c.model == model)):
                raise ModelInUseError(model, alias)
            connection.execute(_models.delete().where(_models.c.id == model))

    def news(self) -> Listener:
        """Its `wait` returns early when the default is another."""
        return self._database.listen(CHANNEL)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._database.writing("registry") as connection:
            yield connection
            self._database.notify(connection, CHANNEL)

    def _row(self, name: str, *columns: sa.Column[Any]) -> Any:
        with self._database.reading() as connection:
            query = sa.select(*columns).where(_models.c.id == _resolve(connection, name))
            if (row := connection.execute(query).one_or_none()) is None:
                raise ModelNotFoundError(name)
            return row


_INFO = [column for column in _models.columns if column.name not in ("spec", "evaluation", "sha256", "safetensors")]


def _score(spec: TrainSpec, evaluation: Evaluation, validation: MeanScores | None) -> float:
    """What the default is chosen by: accuracy on validation images, where there are enough, else on the test set."""
    held_out = TRAIN_EXAMPLES - examples_left(TRAIN_EXAMPLES, spec.validation_split)
    return validation.accuracy if validation and held_out >= ENOUGH_VALIDATION_IMAGES else evaluation.accuracy


def _published(connection: sa.Connection, run: str) -> str | None:
    return connection.scalar(sa.select(_models.c.id).where(_models.c.run == run))


def _resolve(connection: sa.Connection, name: str) -> str:
    """The id that an id or an alias stands for."""
    of_alias = sa.select(_aliases.c.model).where(_aliases.c.name == name)
    model = connection.scalar(of_alias) or connection.scalar(sa.select(_models.c.id).where(_models.c.id == name))
    if model is None:
        raise ModelNotFoundError(name)
    return model


def _follow_the_best(connection: sa.Connection) -> None:
    """Unless the default is pinned."""
    alias = connection.execute(sa.select(_aliases).where(_aliases.c.name == DEFAULT)).one_or_none()
    if alias and alias.pinned:
        return
    best_first = sa.select(_models.c.id).order_by(_models.c.score.desc(), _models.c.created_at)
    best = connection.scalar(best_first.limit(1))
    if best:
        connection.execute(_aliases.delete().where(_aliases.c.name == DEFAULT))
        connection.execute(_aliases.insert().values(name=DEFAULT, model=best, pinned=False))


def _infos(connection: sa.Connection, query: sa.Select[Any]) -> list[ModelInfo]:
    aliases = connection.execute(sa.select(_aliases)).all()
    return [_info(row, aliases) for row in connection.execute(query)]


def _info(row: Any, aliases: Sequence[Any]) -> ModelInfo:
    return ModelInfo(
        id=row.id,
        name=row.name,
        run=row.run,
        created_at=row.created_at.replace(tzinfo=UTC),
        parameters=row.parameters,
        scores=Scores(
            loss=row.loss,
            accuracy=row.accuracy,
            validation_loss=row.validation_loss,
            validation_accuracy=row.validation_accuracy,
        ),
        aliases=[alias.name for alias in aliases if alias.model == row.id],
        pinned=any(alias.pinned for alias in aliases if alias.model == row.id),
    )
