"""The movable names of models: the default, the candidate that is tried beside it, and those that people give."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa

from app import model_tables
from app.database import Database, Listener
from app.errors import AliasNotFoundError, CandidateError, ModelNotFoundError, ReservedAliasError
from app.model_schemas import AliasInfo
from app.schemas import MODEL_NAME

DEFAULT = "default"
CANDIDATE = "candidate"
CHANNEL = "inkling_default"  # says that an alias may point elsewhere
RESERVED = {  # how else to set them
    DEFAULT: "PUT /models/default",
    CANDIDATE: "PUT /models/candidate",
    "compare": "GET /models/compare",
}
_MODEL_ID = re.compile(r"[0-9a-f]{12}")

_models, _aliases = model_tables.models, model_tables.aliases
_alias_columns = [_aliases.c[name] for name in AliasInfo.model_fields]


class Candidate(NamedTuple):
    """A model that is tried beside the default: on a share of the traffic, or in its shadow, where nobody sees it."""

    model: str
    share: float  # 0..1; 0 in the shadow
    shadow: bool


class Counts(NamedTuple):
    """What a candidate has done since its trial began, in images."""

    answered: int = 0
    compared: int = 0
    agreed: int = 0

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(*(now - then for now, then in zip(self, earlier, strict=True)))


_candidate_columns = [_aliases.c[name] for name in Candidate._fields]
_count_columns = [_aliases.c[name] for name in Counts._fields]


class Aliases:
    """The aliases of one database's models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def aliases(self) -> list[AliasInfo]:
        """All of them, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*_alias_columns).order_by(_aliases.c.name)).all()
        return [AliasInfo.model_validate(row._mapping) for row in rows]

    def default(self) -> str | None:
        """The id of the default model."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(_aliases.c.model).where(_aliases.c.name == DEFAULT))

    def pin_default(self, name: str | None) -> None:
        """Makes a model the default until it is unpinned; None unpins and makes the best model the default."""
        with self._writing() as connection:
            if name is not None:
                point_default(connection, resolve(connection, name), pinned=True)
            else:
                connection.execute(_aliases.update().where(_aliases.c.name == DEFAULT).values(pinned=False))
                follow_the_best(connection)

    def candidate(self) -> Candidate | None:
        row = self._of_candidate(_candidate_columns)
        return Candidate(*row) if row else None

    def candidate_counts(self) -> Counts:
        """Of all processes together, as far as they have told."""
        row = self._of_candidate(_count_columns)
        return Counts(*row) if row else Counts()

    def _of_candidate(self, columns: list[sa.Column[Any]]) -> sa.Row[*tuple[Any, ...]] | None:
        with self._database.reading() as connection:
            return connection.execute(sa.select(*columns).where(_aliases.c.name == CANDIDATE)).one_or_none()

    def count(self, candidate: Candidate, more: Counts) -> None:
        """Adds to what the candidate has done; nothing where its trial has ended."""
        is_its_trial = [column == value for column, value in zip(_candidate_columns, candidate, strict=True)]
        sums = {name: _aliases.c[name] + value for name, value in more._asdict().items()}
        with self._database.writing() as connection:
            connection.execute(_aliases.update().where(_aliases.c.name == CANDIDATE, *is_its_trial).values(sums))

    def try_beside_default(self, name: str | None, *, share: float = 0.0, shadow: bool = False) -> None:
        """Makes a model the candidate; None ends the trial. It ends by itself when the candidate becomes the default.

        share: 0..1 of the traffic; in the shadow, none. Raises CandidateError for the default itself.
        """
        with self._writing() as connection:
            model = None if name is None else resolve(connection, name)
            if model and model == connection.scalar(sa.select(_aliases.c.model).where(_aliases.c.name == DEFAULT)):
                raise CandidateError(model)
            connection.execute(_aliases.delete().where(_aliases.c.name == CANDIDATE))
            if model:
                connection.execute(
                    _aliases.insert().values(name=CANDIDATE, model=model, share=share, shadow=shadow, pinned=False)
                )

    def point(self, alias: str, name: str) -> AliasInfo:
        """Makes an alias of a model, which `name` stands for, or points it there instead. Raises ReservedAliasError."""
        require_free(alias)
        with self._writing() as connection:
            model = resolve(connection, name)
            connection.execute(_aliases.delete().where(_aliases.c.name == alias))
            connection.execute(_aliases.insert().values(name=alias, model=model))
        return AliasInfo(name=alias, model=model, pinned=False, share=0.0, shadow=False)

    def drop(self, alias: str) -> None:
        """Raises AliasNotFoundError, and ReservedAliasError."""
        require_free(alias)
        with self._writing() as connection:
            if connection.execute(_aliases.delete().where(_aliases.c.name == alias)).rowcount == 0:
                raise AliasNotFoundError(alias)

    def news(self) -> Listener:
        """Its `wait` returns early when the default or the candidate may be another."""
        return self._database.listen(CHANNEL)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._database.writing("registry") as connection:
            yield connection
            self._database.notify(connection, CHANNEL)


def require_free(alias: str) -> None:
    """Raises ReservedAliasError for a name that has a route of its own, or that looks like a model's id."""
    if alias in RESERVED:
        raise ReservedAliasError(f"{alias!r} cannot be set or dropped here; see {RESERVED[alias]}")
    if _MODEL_ID.fullmatch(alias):
        raise ReservedAliasError(f"{alias!r} looks like a model's id; take another name")


def resolve(connection: sa.Connection, name: str) -> str:
    """The id that an id or an alias stands for. Raises ModelNotFoundError."""
    model = None
    if re.fullmatch(MODEL_NAME, name):  # no other can be there, and PostgreSQL takes no NUL
        of_alias = sa.select(_aliases.c.model).where(_aliases.c.name == name)
        model = connection.scalar(of_alias) or connection.scalar(sa.select(_models.c.id).where(_models.c.id == name))
    if model is None:
        raise ModelNotFoundError(name)
    return model


def follow_the_best(connection: sa.Connection) -> None:
    """Points the default to the best model that was trained here, unless it is pinned.

    One that was uploaded is the default only where somebody pins it: whoever may upload does not decide who answers.
    """
    if connection.scalar(sa.select(_aliases.c.pinned).where(_aliases.c.name == DEFAULT)):
        return
    best_first = sa.select(_models.c.id).order_by(_models.c.score.desc(), _models.c.created_at)
    if best := connection.scalar(best_first.where(_models.c.run.is_not(None)).limit(1)):
        point_default(connection, best, pinned=False)


def point_default(connection: sa.Connection, model: str, *, pinned: bool) -> None:
    """The trial of a candidate ends when it is the default."""
    is_candidate = (_aliases.c.name == CANDIDATE) & (_aliases.c.model == model)
    connection.execute(_aliases.delete().where((_aliases.c.name == DEFAULT) | is_candidate))
    connection.execute(_aliases.insert().values(name=DEFAULT, model=model, pinned=pinned))
