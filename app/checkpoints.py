"""The checkpoint of each run that is under way: one row a run, replaced in one transaction, gone when the run ends."""

from pathlib import Path

import sqlalchemy as sa

from app.database import Database

_metadata = sa.MetaData()
_checkpoints = sa.Table(
    "checkpoints",
    _metadata,
    sa.Column("run", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


class Checkpoints:
    """Bytes that `model.resume` makes and reads; their checksum is among them."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _metadata)

    def save(self, run: str, data: bytes) -> None:
        with self._database.writing() as connection:
            connection.execute(_checkpoints.delete().where(_checkpoints.c.run == run))
            connection.execute(_checkpoints.insert().values(run=run, data=data))

    def load(self, run: str) -> bytes | None:
        with self._database.reading() as connection:
            return connection.scalar(sa.select(_checkpoints.c.data).where(_checkpoints.c.run == run))

    def runs(self) -> list[str]:
        with self._database.reading() as connection:
            return list(connection.scalars(sa.select(_checkpoints.c.run)))

    def delete(self, run: str) -> None:
        with self._database.writing() as connection:
            connection.execute(_checkpoints.delete().where(_checkpoints.c.run == run))
