"""inkling backup and restore: both files of a service on SQLite, as they were at one moment, while it runs.

Models and queue are two files (see app.database). For an instant nobody may write to the models' one: no run is being
queued then, and no model published. What both files are like in that instant is what is copied, however long it takes.
"""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from app.database import POSTGRESQL, TIMEOUT_SECONDS, queue_url
from app.settings import Settings

NAMES = ("inkling.db", "queue.db")  # in a backup, whatever the service's own are called
LOCK = "service.lock"
ANY_READ = "SELECT count(*) FROM sqlite_master"  # reads the file, whatever tables it has


class BackupError(Exception):
    """Its text says what is in the way, and what would help."""


def back_up(settings: Settings, folder: Path) -> None:
    """Makes the folder, with a copy of each file in it, or nothing. Raises BackupError."""
    files = _files(settings)
    if folder.exists():
        raise BackupError(f"{folder} is there already; name a new folder")
    for file in files:
        if not file.exists():
            raise BackupError(f"there is no {file} to back up")
    unfinished = folder.absolute().with_name(f".{folder.name}.unfinished")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        _back_up(files, unfinished)
        unfinished.rename(folder)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"the backup failed: {error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def restore(settings: Settings, folder: Path) -> None:
    """Puts a backup where the service will look for its files. Raises BackupError where it has some already."""
    files = _files(settings)
    for name in NAMES:
        if not (folder / name).is_file():
            raise BackupError(f"{folder} is no backup: it has no {name}")
    with held(settings, alone=True):
        for file in files:
            for obstacle in file.parent.glob(f"{file.name}*"):  # a journal that was left behind would be applied
                raise BackupError(f"{obstacle} is there already; name an empty folder, or move it away")
        try:
            _restore(folder, files)
        except (OSError, sqlite3.Error) as error:
            raise BackupError(f"the restore failed: {error}") from None


@contextmanager
def held(settings: Settings, *, alone: bool = False) -> Iterator[None]:
    """Meanwhile the files are in use, by a service's processes or by `restore` alone. Raises BackupError."""
    if _is_postgresql(settings):
        yield
        return
    folder = Path(str(sa.make_url(settings.database).database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise BackupError(f"cannot write to {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            user = "a service runs" if alone else "inkling restore works"
            raise BackupError(f"{user} in {folder}; try again when it has ended") from None
        if not alone:
            _check_no_restore_was_broken_off(settings)
            _check_they_are_databases(settings)
        yield


def _check_no_restore_was_broken_off(settings: Settings) -> None:
    for copy in map(_unfinished, _files(settings)):
        if copy.exists():
            raise BackupError(f"{copy} is left of a restore that was broken off; empty the folder and restore again")


def _check_they_are_databases(settings: Settings) -> None:
    """Else every process fails at its start, and is started again without end."""
    for file in filter(Path.exists, _files(settings)):
        try:
            with closing(_open(file)) as connection:
                connection.execute(ANY_READ).fetchone()
        except sqlite3.OperationalError:
            pass  # in use, or the disk is full: it may be well in a moment
        except sqlite3.DatabaseError as error:
            raise BackupError(f"{file} is damaged ({error}); move it away and restore a backup") from None


def _unfinished(file: Path) -> Path:
    """What a restore writes before it renames it."""
    return file.with_name(f".{file.name}.unfinished")


def _is_postgresql(settings: Settings) -> bool:
    return sa.make_url(settings.database).drivername == POSTGRESQL


def _files(settings: Settings) -> list[Path]:
    """The service's own, in the order of NAMES."""
    if _is_postgresql(settings):
        raise BackupError("the database is PostgreSQL: use pg_dump and pg_restore, as the README shows")
    return [Path(str(sa.make_url(url).database)) for url in (settings.database, queue_url(settings.database))]


def _back_up(files: list[Path], folder: Path) -> None:
    with ExitStack() as opened:
        sources = [opened.enter_context(closing(_open(file))) for file in files]
        with closing(_open(files[0])) as writer:
            writer.execute("BEGIN IMMEDIATE")
            for source in sources:  # each sees its file as it is now, from here on
                source.execute("BEGIN")
                source.execute(ANY_READ).fetchone()
            writer.execute("ROLLBACK")
        for source, name in zip(sources, NAMES, strict=True):
            _copy(source, folder / name)


def _restore(folder: Path, files: list[Path]) -> None:
    """A restore that fails leaves no file; one whose process is killed, a copy by which that is recognised."""
    copies = [_unfinished(file) for file in files]
    renamed: list[Path] = []
    try:
        for name, copy in zip(NAMES, copies, strict=True):
            with closing(sqlite3.connect(f"{(folder / name).absolute().as_uri()}?mode=ro", uri=True)) as source:
                _copy(source, copy)
        for copy, file in zip(copies, files, strict=True):
            copy.rename(file)
            renamed.append(file)
    except BaseException:
        for file in (*renamed, *copies):
            file.unlink(missing_ok=True)
        raise


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=TIMEOUT_SECONDS, isolation_level=None)


def _copy(source: sqlite3.Connection, file: Path) -> None:
    """Checked page by page; a single file, which can be read from where nothing can be written."""
    file.unlink(missing_ok=True)
    with closing(_open(file)) as copy:
        copy.execute("PRAGMA journal_mode=OFF")  # what fails is removed; a full disk left the journal behind
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise BackupError(f"{file.name} is damaged: {said}")
