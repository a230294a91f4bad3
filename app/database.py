"""The SQLite file that models and checkpoints live in: its tables, and transactions that hold what they have read."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

TIMEOUT_SECONDS = 30.0


class Database:
    """Tables of one file, made when they are missing. Safe to open from many processes at once."""

    def __init__(self, path: Path, tables: sa.MetaData) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": TIMEOUT_SECONDS})
        sa.event.listen(self._engine, "connect", _configure)
        with self.writing() as connection:
            for table in tables.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))

    def close(self) -> None:
        self._engine.dispose()

    def reading(self) -> sa.Connection:
        return self._engine.connect()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start: what it has read stays true until it commits."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()


def use_wal(connection: Any) -> None:
    """SQLite's own timeout does not cover two processes that do this to a new file at once."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _configure(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `writing` says so
    use_wal(connection)
    connection.execute("PRAGMA foreign_keys=ON")
