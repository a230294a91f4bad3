"""A backup is what a service was like at one moment, and a service goes on from it elsewhere."""

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count, takewhile
from pathlib import Path

import pytest

from app.backup import LOCK, NAMES, BackupError, back_up, held, restore
from app.settings import Settings
from tests.drawings import draw, encoded
from tests.processes import ROOT, Service, serving


def inkling(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "app.cli", *arguments)
    environment = {**os.environ, "INKLING_DATA_DIR": str(data_dir)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_running_service_goes_on_elsewhere_from_its_backup(
    service: Service, service_dir: Path, tmp_path: Path
) -> None:
    told = {path: service.get(path) for path in ("/models", "/evaluate", "/train", "/train/first-0")}
    saved = inkling(service_dir, "backup", str(tmp_path / "saved"))
    assert (saved.returncode, saved.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == sorted(NAMES)

    elsewhere = tmp_path / "elsewhere"
    restored = inkling(elsewhere, "restore", str(tmp_path / "saved"))
    assert (restored.returncode, restored.stderr) == (0, "")
    with serving(elsewhere) as other:
        assert {path: other.get(path) for path in told} == told
        other.ready()
        answer = other.http.post("/predict", content=encoded(draw(7)), headers={"Content-Type": "image/png"})
        assert answer.json()["digit"] == 7
        refused = inkling(elsewhere, "restore", str(tmp_path / "saved"))
        assert (refused.returncode, refused.stderr.strip()) == (
            1,
            f"a service runs in {elsewhere}; try again when it has ended",
        )
    refused = inkling(elsewhere, "restore", str(tmp_path / "saved"))
    assert (refused.returncode, refused.stderr.strip()) == (
        1,
        f"{elsewhere / 'inkling.db'} is there already; name an empty folder, or move it away",
    )


def test_a_backup_never_overwrites_one(service: Service, service_dir: Path, tmp_path: Path) -> None:
    refused = inkling(service_dir, "backup", str(tmp_path))
    assert (refused.returncode, refused.stderr) == (1, f"{tmp_path} is there already; name a new folder\n")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def traffic(folder: Path) -> Iterator[None]:
    """Queues runs, publishes their models, and then writes down that they have ended, as the service does."""
    stopping = threading.Event()

    def work() -> None:
        with opened(folder / "inkling.db") as models, opened(folder / "queue.db") as queue:
            for run in takewhile(lambda _: not stopping.is_set(), count(1)):
                models.execute("BEGIN IMMEDIATE")
                queue.execute("INSERT INTO runs VALUES (?, 'queued')", (run,))
                models.execute("COMMIT")
                models.execute("INSERT INTO models VALUES (?)", (run,))
                queue.execute("UPDATE runs SET state = 'succeeded' WHERE run = ?", (run,))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        yield connection


def test_a_backup_is_of_one_moment_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with opened(tmp_path / "inkling.db") as models, opened(tmp_path / "queue.db") as queue:
        models.execute("CREATE TABLE models (run INTEGER PRIMARY KEY)")
        queue.execute("CREATE TABLE runs (run INTEGER PRIMARY KEY, state TEXT)")
    seen: list[int] = []
    with traffic(tmp_path):
        for number in range(20):
            back_up(settings, tmp_path / f"saved-{number}")
            with opened(tmp_path / f"saved-{number}" / "inkling.db") as models:
                published = {run for (run,) in models.execute("SELECT run FROM models")}
            with opened(tmp_path / f"saved-{number}" / "queue.db") as queue:
                states = dict(queue.execute("SELECT run, state FROM runs"))
            succeeded = {run for run, state in states.items() if state == "succeeded"}
            assert succeeded <= published <= set(states)
            seen.append(len(succeeded))
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with pytest.raises(BackupError, match=r"is no backup: it has no inkling\.db"):
        restore(settings, tmp_path / "nothing")
    saved = tmp_path / "saved"
    saved.mkdir()
    for name in NAMES:
        (saved / name).write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="the restore failed: file is not a database"):
        restore(settings, saved)
    assert not list(settings.data_dir.glob("*.db"))


@pytest.mark.parametrize("broken", [0, 1])
def test_a_restore_that_fails_at_its_end_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    settings, saved = Settings(data_dir=tmp_path / "data"), a_backup(tmp_path)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == f".{NAMES[broken]}.unfinished":
            raise OSError("the disk is full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BackupError, match="the restore failed: the disk is full"):
        restore(settings, saved)
    assert [path.name for path in settings.data_dir.iterdir()] == [LOCK]


def test_a_restore_for_which_there_is_no_room_leaves_no_file(tmp_path: Path) -> None:
    settings, saved = Settings(data_dir=tmp_path / "data"), a_backup(tmp_path, megabytes=4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(BackupError, match="the restore failed: "):
            restore(settings, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in settings.data_dir.iterdir()] == [LOCK]


def test_a_restore_that_was_killed_between_its_files_is_recognised(tmp_path: Path) -> None:
    settings, saved = Settings(data_dir=tmp_path / "data"), a_backup(tmp_path)
    restore(settings, saved)
    copy = settings.data_dir / f".{NAMES[1]}.unfinished"
    (settings.data_dir / NAMES[1]).rename(copy)
    refused = inkling(settings.data_dir, "worker")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"{copy} is left of a restore that was broken off")


@pytest.mark.parametrize("name", NAMES)
def test_no_service_starts_on_a_file_that_is_no_database(tmp_path: Path, name: str) -> None:
    a_backup(tmp_path)
    damaged = tmp_path / name
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    refused = inkling(tmp_path, "worker")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"{damaged} is damaged (file is not a database); move it away")


def a_backup(tmp_path: Path, megabytes: int = 0) -> Path:
    for name in NAMES:
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            connection.execute("CREATE TABLE runs (run BLOB)")
            connection.execute("INSERT INTO runs VALUES (zeroblob(?))", [1_000_000 * megabytes])
    back_up(Settings(data_dir=tmp_path), tmp_path / "saved")
    return tmp_path / "saved"


def test_no_service_starts_while_a_backup_is_restored(tmp_path: Path) -> None:
    with held(Settings(data_dir=tmp_path), alone=True):
        refused = inkling(tmp_path, "worker")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        1,
        f"inkling restore works in {tmp_path}; try again when it has ended",
    )


def test_on_postgresql_the_commands_name_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:9/nothing")
    for act in (back_up, restore):
        with pytest.raises(BackupError, match="use pg_dump and pg_restore"):
            act(settings, tmp_path / "saved")
