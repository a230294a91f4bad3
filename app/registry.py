"""Published models: publish, list, load, rename, delete. Their aliases: app.aliases.

A model is one row: its spec, scores and parameters (safetensors bytes), which never change, and a label and description
for people, which do. It is published by one INSERT, once a run, or uploaded.
"""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app import model_tables
from app.aliases import Aliases, follow_the_best, resolve
from app.checkpoints import end_attempt, require_attempt
from app.errors import ModelInUseError, ModelNotFoundError, UnusableModelError
from app.model_schemas import LeaderboardEntry, ModelInfo, Order, Scores, Sort
from model import network as net
from model.data import TRAIN_EXAMPLES, examples_left
from model.scores import Evaluation, MeanScores
from model.spec import TrainSpec

ENOUGH_VALIDATION_IMAGES = 5_000  # fewer tell models apart by luck
DIVERGED_SCORE = -1.0  # below every other

_models, _aliases = model_tables.models, model_tables.aliases


class Registry(Aliases):
    """The models and aliases of one database."""

    def publish(
        self,
        run: str,
        spec: TrainSpec,
        data: bytes,
        evaluation: Evaluation,
        validation: MeanScores | None,
        *,
        attempt: int,
        diverged: bool = False,
    ) -> str:
        """Adds the run's model, the default if it is the best, and returns its id; a second call adds nothing.

        One that a diverged training left becomes the default only where there is no other. Raises SupersededError for
        an attempt that is not the run's newest. data: what `model.finish` makes of the parameters.
        """
        row = {
            **_row_of(data, spec, evaluation),
            "run": run,
            "score": DIVERGED_SCORE if diverged else _score(spec, evaluation, validation),
            "validation_loss": validation and validation.loss,
            "validation_accuracy": validation and validation.accuracy,
        }
        with self._writing() as connection:
            require_attempt(connection, run, attempt)
            if existing := model_of(connection, run):
                return existing
            connection.execute(_models.insert().values(row))
            follow_the_best(connection)
        return str(row["id"])

    def add(self, data: bytes, spec: TrainSpec, evaluation: Evaluation, name: str | None) -> tuple[str, bool]:
        """The id of an uploaded model, and whether it is a new one: the same bytes are one model.

        It never becomes the default by itself. name: its label instead of the spec's.
        """
        row = {**_row_of(data, spec, evaluation), "score": evaluation.accuracy}
        with self._writing() as connection:
            if existing := _same(connection, row["sha256"]):
                return existing, False
            connection.execute(_models.insert().values({**row, "name": name or spec.name}))
        return row["id"], True

    def same(self, data: bytes) -> str | None:
        """The id of the model that has these very bytes, the oldest of them."""
        with self._database.reading() as connection:
            return _same(connection, hashlib.sha256(data).hexdigest())

    def succeeded_with(self, run: str) -> str | None:
        """The id of the model that a training of the run has published; None for what one that diverged has left."""
        query = sa.select(_models.c.id).where(_models.c.run == run, _models.c.score > DIVERGED_SCORE)
        with self._database.reading() as connection:
            return connection.scalar(query)

    def renounce(self, run: str) -> bool:
        """Whether the run has published nothing, and from now on cannot: its attempt has ended."""
        with self._database.writing("registry") as connection:
            if model_of(connection, run):
                return False
            end_attempt(connection, run)
        return True

    def models(
        self,
        *,
        name: str = "",
        sort: Sort = "created_at",
        order: Order | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[ModelInfo]:
        """Those with `name` in their label, in upper or lower case; all of them, newest first, if nothing is asked.

        order: by default the newest, the best or the largest comes first, and names from A on.
        """
        order = order or ("asc" if sort in ("name", "loss") else "desc")
        column = sa.func.lower(_models.c.name) if sort == "name" else _models.c[sort]
        places = [column, _models.c.id]
        query = sa.select(*_INFO).order_by(*(place.desc() if order == "desc" else place for place in places))
        if name:
            query = query.where(_models.c.name.icontains(name, autoescape=True))
        with self._database.reading() as connection:
            return _infos(connection, query.limit(limit).offset(offset))

    def leaderboard(self) -> list[LeaderboardEntry]:
        """All models, the best first."""
        columns = [
            _models.c.id.label("model"),
            *(_models.c[name] for name in ("name", "loss", "accuracy", "parameters")),
        ]
        query = sa.select(*columns).order_by(_models.c.accuracy.desc(), _models.c.loss)
        with self._database.reading() as connection:
            return [LeaderboardEntry.model_validate(row) for row in connection.execute(query).mappings()]

    def id_of(self, name: str) -> str:
        """name: an id or an alias. Raises ModelNotFoundError."""
        with self._database.reading() as connection:
            return resolve(connection, name)

    def model(self, name: str) -> ModelInfo:
        """name: an id or an alias. Raises ModelNotFoundError."""
        with self._database.reading() as connection:
            infos = _infos(connection, sa.select(*_INFO).where(_models.c.id == resolve(connection, name)))
        if not infos:  # deleted since its name was resolved
            raise ModelNotFoundError(name)
        return infos[0]

    def evaluation(self, name: str) -> tuple[str, Evaluation]:
        """The id of the model that `name` stands for, and its report."""
        model, report = self._row(name, _models.c.id, _models.c.evaluation)
        return model, Evaluation.model_validate(report)

    def parameters(self, name: str) -> tuple[str, bytes]:
        """The id of the model that `name` stands for, and its safetensors bytes. Raises UnusableModelError."""
        model, data, sha256 = self._row(name, _models.c.id, _models.c.safetensors, _models.c.sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UnusableModelError(model, f"its parameters are damaged, their SHA-256 is not {sha256}")
        return model, data

    def change(self, name: str, label: str | None, description: str | None) -> ModelInfo:
        """Gives a model another label, another description, or both; None leaves it as it is."""
        values = {"name": label, "description": description}
        changed = {field: value for field, value in values.items() if value is not None}
        with self._writing() as connection:
            model = resolve(connection, name)
            connection.execute(_models.update().where(_models.c.id == model).values(changed))
        return self.model(model)

    def delete(self, name: str) -> None:
        """Raises ModelInUseError while an alias points to the model."""
        with self._writing() as connection:
            model = resolve(connection, name)
            if alias := connection.scalar(sa.select(_aliases.c.name).where(_aliases.c.model == model)):
                raise ModelInUseError(model, alias)
            connection.execute(_models.delete().where(_models.c.id == model))

    def _row(self, name: str, *columns: sa.Column[Any]) -> Any:
        with self._database.reading() as connection:
            query = sa.select(*columns).where(_models.c.id == resolve(connection, name))
            if (row := connection.execute(query).one_or_none()) is None:
                raise ModelNotFoundError(name)
            return row


_INFO = [column for column in _models.columns if column.name not in ("evaluation", "sha256", "safetensors")]


def _row_of(data: bytes, spec: TrainSpec, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(6),
        "name": spec.name,
        "created_at": datetime.now(UTC),
        "spec": spec.model_dump(mode="json"),
        "parameters": net.parameter_count(spec.network),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "evaluation": evaluation.model_dump(mode="json"),
        "sha256": hashlib.sha256(data).hexdigest(),
        "safetensors": data,
    }


def _score(spec: TrainSpec, evaluation: Evaluation, validation: MeanScores | None) -> float:
    """What the default is chosen by: accuracy on validation images, where there are enough, else on the test set."""
    held_out = TRAIN_EXAMPLES - examples_left(TRAIN_EXAMPLES, spec.validation_split)
    return validation.accuracy if validation and held_out >= ENOUGH_VALIDATION_IMAGES else evaluation.accuracy


def model_of(connection: sa.Connection, run: str) -> str | None:
    """The id of the model that the run has published; one that diverged, too."""
    return connection.scalar(sa.select(_models.c.id).where(_models.c.run == run))


def _same(connection: sa.Connection, sha256: str) -> str | None:
    query = sa.select(_models.c.id).where(_models.c.sha256 == sha256)
    return connection.scalar(query.order_by(_models.c.created_at).limit(1))


def _infos(connection: sa.Connection, query: sa.Select[Any]) -> list[ModelInfo]:
    aliases: defaultdict[str, list[Any]] = defaultdict(list)  # by model
    for alias in connection.execute(sa.select(_aliases).order_by(_aliases.c.name)):
        aliases[alias.model].append(alias)
    return [_info(row, aliases[row.id]) for row in connection.execute(query)]


def _info(row: Any, aliases: Sequence[Any]) -> ModelInfo:
    return ModelInfo(
        id=row.id,
        name=row.name,
        description=row.description,
        run=row.run,
        created_at=row.created_at.replace(tzinfo=UTC),
        parameters=row.parameters,
        spec=row.spec,
        scores=Scores(
            loss=row.loss,
            accuracy=row.accuracy,
            validation_loss=row.validation_loss,
            validation_accuracy=row.validation_accuracy,
        ),
        aliases=[alias.name for alias in aliases],
        pinned=any(alias.pinned for alias in aliases),
    )
