"""How soon the service does what it is told: a run trains, a cancelled one ends, a worker leaves, a default is seen.

    .venv/bin/python -m benchmarks.promptness train --times 10
    .venv/bin/python -m benchmarks.promptness cancel --times 20
    .venv/bin/python -m benchmarks.promptness stop --times 5 --database postgresql
    .venv/bin/python -m benchmarks.promptness default --times 10

Real processes on loopback, their data in a temporary folder; the settings are the service's own defaults.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from app.checkpoints import Checkpoints
from app.database import Database
from tests.models import FirstModel
from tests.postgresql import running
from tests.processes import LONG_SPEC, SMALL_SPEC, Service, serving, told_of, wait_for, working

LOOK_SECONDS = 0.005
UNTIL_CANCEL_SECONDS = 10.0  # from the start of its process, which loads JAX first


class Place(NamedTuple):
    """A database with a first model in it, and folders for those who use it."""

    folder: Path
    url: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    measures = (("train", train, 10), ("cancel", cancel, 20), ("stop", stop, 5), ("default", default, 10))
    for name, measure, times in measures:
        command = commands.add_parser(name)
        command.add_argument("--times", type=int, default=times)
        command.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
        command.set_defaults(measure=measure)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with place(arguments.database) as here:
        arguments.measure(here, arguments.times)
    print(f"{arguments.database}; load {load:.1f} before and {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")


@contextmanager
def place(database: str) -> Iterator[Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="inkling-promptness-")))
        folder.chmod(0o755)  # PostgreSQL's user passes through
        first, url = FirstModel(folder), f"sqlite:///{folder / 'data' / 'inkling.db'}"
        if database == "postgresql":
            (folder / "server").mkdir()
            url = stack.enter_context(running(folder / "server")).new_database()
            first(folder / "copied", url)
        else:
            first(folder / "data")
        yield Place(folder, url)


def report(what: str, seconds: list[float]) -> None:
    print(f"{what}: p50 {statistics.median(seconds):.2f} s, most {max(seconds):.2f} (n = {len(seconds)})", flush=True)


def seconds_until(happened: Callable[[], bool], since: float) -> float:
    while not happened():
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - since


def gone(pid: int) -> bool:
    try:
        return told_of(pid, "State").startswith("Z")
    except FileNotFoundError:
        return True


def train(here: Place, times: int) -> None:
    """One run after another, of a network that is trained in no time: what any run takes besides its steps."""
    trained, ended = [], []
    with serving(here.folder / "data", INKLING_DATABASE_URL=here.url) as service:
        service.ended(service.train(**SMALL_SPEC))  # compiles, and loads what later runs find
        for seed in range(times):
            began = time.monotonic()
            run = service.train(**SMALL_SPEC, seed=seed)
            trained.append(seconds_until(lambda run=run: trains(service, run, None), began))
            ended.append(seconds_until(lambda run=run: service.get(f"/train/{run}")["state"] == "succeeded", began))
    report("a run's first steps are told of", trained)
    report("its model is there", ended)


def cancel(here: Place, times: int) -> None:
    """Queued: until the answer says so. Running: until its process is gone as well, at any moment of a run."""
    queued, answered, ended = [], [], []
    with serving(here.folder / "data", INKLING_DATABASE_URL=here.url) as service:
        for _ in range(times):
            run, waiting = service.train(**LONG_SPEC), service.train(**SMALL_SPEC)
            queued.append(seconds_to_cancel(service, waiting))
            wait_for(lambda: len(service.trainers()) == 1)
            time.sleep(random.uniform(0.0, UNTIL_CANCEL_SECONDS))
            (trainer,) = service.trainers()
            history, began = service.get(f"/train/{run}")["history"], time.monotonic()
            answered.append(seconds_to_cancel(service, run))
            ended.append(seconds_until(partial(gone, trainer), began))
            assert service.get(f"/train/{run}")["history"][: len(history)] == history, "it is kept"
            assert not service.trainers()
    report("a queued run is cancelled", queued)
    report("a running one is", answered)
    report("and its process is gone", ended)


def seconds_to_cancel(service: Service, run: str) -> float:
    began = time.monotonic()
    answer = service.http.post(f"/train/{run}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled"), answer.text
    return time.monotonic() - began


def stop(here: Place, times: int) -> None:
    """SIGTERM to a worker that trains, until it is gone; then until the next worker trains on."""
    ended, continued = [], []
    with (
        serving(here.folder / "data", "api", INKLING_DATABASE_URL=here.url) as api,
        closing(Database(here.url)) as database,
    ):
        checkpoints = Checkpoints(database)
        run = api.train(**LONG_SPEC)
        since = None
        for number in range(times + 1):
            with working(here.folder / f"worker-{number}", INKLING_DATABASE_URL=here.url) as worker:
                began = time.monotonic()
                wait_for(lambda since=since: trains(api, run, since))
                if number:
                    continued.append(time.monotonic() - began)
                    assert api.get(f"/train/{run}")["progress"]["note"].startswith("taken up again")
                if number == times:
                    break
                since = api.get(f"/train/{run}")["started_at"]
                time.sleep(random.uniform(0.0, 3.0))
                before, began = checkpoints.load(run), time.monotonic()
                worker.process.terminate()
                assert worker.process.wait(30) == 0
                ended.append(time.monotonic() - began)
                assert not worker.pids()
                assert checkpoints.load(run) != before, "it has saved a last one"
                assert api.get(f"/train/{run}")["state"] == "queued"
        api.http.post(f"/train/{run}/cancel")
    report("a worker that trains is gone after SIGTERM", ended)
    report("the next one, from its own start, trains on", continued)


def trains(service: Service, run: str, since: str | None) -> bool:
    """Since another moment than its last attempt."""
    found = service.get(f"/train/{run}")
    return found["started_at"] != since and (found["progress"] or {}).get("phase") in ("training", "evaluating")


def default(here: Place, times: int) -> None:
    """PUT to one API, until the other answers with the model; both have been asked for it all the time."""
    heard, told = [], []
    settings = {"INKLING_DATABASE_URL": here.url}
    with (
        serving(here.folder / "data", **settings) as one,
        serving(here.folder / "data", "api", **settings) as other,
    ):
        models = [one.ended(one.train(**SMALL_SPEC, seed=seed))["model"] for seed in range(2)]
        for number in range(times):
            time.sleep(random.uniform(0.0, 1.0))
            model, began = models[number % 2], time.monotonic()
            assert one.http.put("/models/default", json={"model": model}).status_code == 200
            told.append(seconds_until(partial(answers_with, one, model), began))
            heard.append(seconds_until(partial(answers_with, other, model), began))
    report("the API that was told of a new default answers with it", told)
    report("the other does", heard)


def answers_with(service: Service, model: str) -> bool:
    return bool(service.get("/readyz")["model"] == model)


if __name__ == "__main__":
    main()
