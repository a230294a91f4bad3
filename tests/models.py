"""What a service has after its first start, made once for all tests: who needs a model need not wait for a training."""

import fcntl
import shutil
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from app.backup import back_up, restore
from app.database import Database
from app.model_tables import aliases, models
from app.settings import Settings
from tests.processes import serving

FIRST_RUN = "first-0"


class FirstModel:
    """A service that started from nothing, with the run that it queued by itself and the model of that."""

    def __init__(self, folder: Path) -> None:
        """folder: shared by the processes that test; the first of them trains, the others wait for it."""
        self._saved = folder / "first-model"
        with (folder / "first-model.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._saved.exists():
                _train(folder / "first-start", self._saved)

    def __call__(self, data_dir: Path, url: str = "") -> Path:
        """Puts it into a data folder without databases and returns that.

        With a url, the model goes into that database too, whose queue knows of no run.
        """
        restore(_settings(data_dir), self._saved)
        if url:
            _copy(Database(_settings(data_dir).database), Database(url))
        return data_dir


def _train(data_dir: Path, saved: Path) -> None:
    with serving(data_dir, INKLING_DATABASE_URL="") as service:
        service.ready()
        service.ended(FIRST_RUN)
    back_up(_settings(data_dir), saved)
    shutil.rmtree(data_dir)


def _settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, database_url="")


def _copy(old: Database, new: Database) -> None:
    """The models and their aliases."""
    new.migrate()
    with closing(old), closing(new), old.reading() as source, new.writing() as target:
        for table in (models, aliases):
            if rows := [dict(row) for row in source.execute(sa.select(table)).mappings()]:
                target.execute(table.insert(), rows)
