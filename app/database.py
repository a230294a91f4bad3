"""The database that models, checkpoints and workers live in: SQLite or PostgreSQL, chosen by a URL.

On SQLite the durable queue has a file of its own beside ours, so that a large row being written never delays progress;
on PostgreSQL it has a schema of its own (`dbos`) beside ours (`inkling`).
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 1.0
SCHEMA = "inkling"
POSTGRESQL = "postgresql"
metadata = sa.MetaData()

# What a database raises that is away, full or too busy: it may be well again in a moment. The last is PostgreSQL's, for
# a transaction that slept for too long, and from a server that has become a standby.
UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, sa.exc.InternalError)

# Times come back in UTC. A process that sleeps, or a machine that is gone, in the middle of a transaction holds the
# others up for so long.
_OPTIONS = f"-csearch_path={SCHEMA} -ctimezone=UTC -cidle_in_transaction_session_timeout=15s -clock_timeout=30s"

# A server that vanishes without a word is given up after 25 seconds; else what was sent to it waits for 15 minutes.
# The encoding is a database's own otherwise: SQL_ASCII, where the machine had no locale, of which bytes come.
_CONNECTING = {
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",  # ms
}

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def queue_url(url: str) -> str:
    """Where the durable queue of the same service lives."""
    parsed = sa.make_url(url)
    if parsed.drivername == POSTGRESQL:
        return _connecting(parsed).render_as_string(hide_password=False)
    assert parsed.database is not None, "the settings take no other"
    path = Path(parsed.database)
    return f"sqlite:///{path.with_name('queue.db' if path.stem == 'inkling' else f'{path.stem}-queue.db')}"


def _connecting(url: sa.URL) -> sa.URL:
    """What the URL says of it itself stands."""
    return url.set(query={**_CONNECTING, **url.query})


class NewerDatabaseError(Exception):
    def __init__(self) -> None:
        super().__init__("a newer version has changed this database: start that again, or restore a backup")


class Database:
    """Transactions that hold what they have read. Safe to open from many processes at once."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self.is_postgresql = parsed.drivername == POSTGRESQL
        if self.is_postgresql:
            with_driver = _connecting(parsed).set(drivername="postgresql+psycopg")
            self._engine = sa.create_engine(with_driver, connect_args={"options": _OPTIONS}, pool_pre_ping=True)
        else:
            prepare_file(parsed)
            self._engine = sa.create_engine(parsed, connect_args={"timeout": TIMEOUT_SECONDS})
            sa.event.listen(self._engine, "connect", _configure_sqlite)

    def close(self) -> None:
        self._engine.dispose()

    def migrate(self) -> None:
        """Makes the tables, or brings those of an older version up to date; one process at a time does.

        Raises NewerDatabaseError.
        """
        if self._is_up_to_date():  # a start need not load Alembic then, which takes a tenth of a second
            return
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "app:migrations")
        with self.writing("migrations") as connection:
            if self.is_postgresql:
                connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise NewerDatabaseError from error

    def _is_up_to_date(self) -> bool:
        newest = max(path.stem[:4] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
        with self.reading() as connection:
            has_version = sa.inspect(connection).has_table("alembic_version")
            return has_version and connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == newest

    def reading(self) -> sa.Connection:
        return self._engine.connect()

    @contextmanager
    def writing(self, lock: str | None = None) -> Iterator[sa.Connection]:
        """A transaction. Those with the same lock come one after the other: what one has read stays true until it ends.

        On SQLite all of them do, whatever their lock.
        """
        with self._engine.connect() as connection:
            if not self.is_postgresql:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif lock:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(lock.encode()))))
            yield connection
            connection.commit()

    def notify(self, connection: sa.Connection, channel: str) -> None:
        """Wakes who listens to the channel, once the transaction is committed; on SQLite nobody can."""
        if self.is_postgresql:
            connection.execute(sa.select(sa.func.pg_notify(channel, "")))

    def listen(self, channel: str) -> "Listener":
        return Listener(self, channel)


class Listener:
    """Waits for what others tell over a channel."""

    def __init__(self, database: Database, channel: str) -> None:
        self._database, self._channel = database, channel
        self._connection: Any = None
        self._hears = True
        self._closed = threading.Event()

    def wait(self, seconds: float) -> None:
        """Returns at a notification, and at the latest after so many seconds; on SQLite, always then."""
        if not self._database.is_postgresql:
            self._closed.wait(seconds)
            return
        try:
            for _ in self._driver().notifies(timeout=seconds, stop_after=1):
                pass
            self._hears = True
        except Exception as error:  # noqa: BLE001 - whatever broke the connection, the next wait opens a new one
            if self._hears and not self._closed.is_set():
                _log.warning("news of channel %s come late: %s", self._channel, error.args[0] if error.args else error)
            self._hears = False
            self._disconnect()
            self._closed.wait(seconds)

    def close(self) -> None:
        self._closed.set()
        self._disconnect()

    def _driver(self) -> Any:
        if self._connection is None:
            self._connection = self._database.reading().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.exec_driver_sql(f"LISTEN {self._channel}")
        return self._connection.connection.driver_connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # the pool must not lend a connection that listens
            connection.close()


def retrying(act: Callable[[], Result], *, seconds: float = math.inf) -> Result:
    """What `act` returns, tried again for so many seconds while the database is away, full or too busy."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise
            _tell_of(error)
            time.sleep(RETRY_SECONDS)


async def persisting(act: Callable[[], Result]) -> Result:
    """What `act` returns, in a thread, tried again for as long as the database is away, full or too busy."""
    while True:
        try:
            return await asyncio.to_thread(act)
        except UNAVAILABLE as error:
            _tell_of(error)
            await asyncio.sleep(RETRY_SECONDS)


def _tell_of(error: Exception) -> None:
    _log.warning("the database does not answer, trying again: %s", error.args[0])


def prepare_file(url: sa.URL) -> None:
    """SQLite's: its folder is made, and readers and the writer no longer wait for each other."""
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
        _use_wal(connection)
    connection.close()


def _use_wal(connection: Any) -> None:
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


def _configure_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `writing` says so
    connection.execute("PRAGMA foreign_keys=ON")
    connection.create_function(
        "lower", 1, lambda text: text and text.lower(), deterministic=True
    )  # its own: ASCII only
