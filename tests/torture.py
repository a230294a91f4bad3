"""Tortures the service and judges what is left: python -m tests.torture --database sqlite|postgresql --runs 50.

Users queue small runs at a cluster of real processes and cancel a few, while processes are killed and put to sleep,
the database goes down, the disk fills and clocks jump. Then the faults stop, and every run that was accepted must have
ended, once, with the bits of a training that was left alone.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the processes that are compared with have it
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"  # they would tie compiled code to the cache's path

from app.settings import Settings
from model.compilation import configure_jax
from model.data import load_mnist
from model.presets import TrainRequest
from tests.processes import PATIENCE_SECONDS, SOON_SECONDS, pids
from tests.torture_cluster import OPERATOR, USERS, Cluster, Kind, cluster, new_mark, own_cache
from tests.torture_faults import Chaos
from tests.torture_users import ANSWER_SECONDS, SPECS, Notes, User, body
from tests.trainings import undisturbed

ENDED = ("succeeded", "failed", "cancelled")
BY_DESIGN = ("ended by signal SIGKILL", "its worker died 5 times")  # why a run may fail under these faults


class Options(NamedTuple):
    database: Kind
    runs: int
    workers: int
    apis: int
    specs: int
    seed: int
    gap_seconds: float
    fault_seconds: float
    wait_seconds: float

    @property
    def names(self) -> list[str]:
        return list(SPECS)[: self.specs]


@dataclass
class Verdict:
    """What is wrong with what is left; all are empty in a service that survives."""

    lost: list[str] = field(default_factory=list)  # accepted, but unknown or not ended, or succeeded without a model
    doubled: list[str] = field(default_factory=list)  # runs with several models, or with one that they do not name
    differing: list[str] = field(default_factory=list)  # models with other bits than an undisturbed training's
    revived: list[str] = field(default_factory=list)  # cancelled, and yet trained on
    torn: list[str] = field(default_factory=list)  # streams with a gap, or with no end or another than the run's
    stale: list[str] = field(default_factory=list)  # API processes that do not answer with the default model
    surprising: list[str] = field(default_factory=list)  # answers and failures for which no fault is a reason

    def findings(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.differing, *self.revived, *self.torn, *self.stale, *self.surprising]


class Outcome(NamedTuple):
    runs: dict[str, dict[str, Any]]
    models: list[dict[str, Any]]
    verdict: Verdict


def references(names: list[str], cache_dir: Path) -> dict[str, bytes]:
    """Each spec's parameters, trained here with nobody to disturb it."""
    configure_jax(cache_dir)
    mnist = load_mnist(cache_dir)
    return {name: undisturbed(TrainRequest.model_validate(body(name)).spec(), mnist) for name in names}


def torture(options: Options, folder: Path) -> bool:
    """Prints the report; whether the service has survived."""
    started = time.monotonic()
    expected = references(options.names, Settings().cache_dir)
    cache_dir = own_cache(folder)
    mark = new_mark()
    size = {"workers": options.workers, "apis": options.apis}
    with cluster(options.database, folder, cache_dir, mark=mark, **size) as running:
        notes, stop = Notes(), threading.Event()
        operator = User(running, OPERATOR, notes, random.Random(f"{options.seed} operator"), stop)
        _wait_for_start(operator)
        notes.refusals.clear()
        chaos = Chaos(running, options.seed, options.gap_seconds, folder / "faults.log")
        _disturb(running, options, notes, stop, chaos, operator)
        ended = _wait_for_ends(operator, options.wait_seconds)
        print(f"faults over; every run has ended: {ended}", flush=True)
        outcome = _judge(operator, notes, expected)
        stop.set()
        running.stop()
        left = pids(f"TEST_MARK={mark}")
    survived = not (outcome.verdict.findings() or left)
    print(_report(options, notes, chaos, outcome, left, time.monotonic() - started), flush=True)
    return survived


def _wait_for_start(operator: User) -> None:
    """Until a first model answers: not that of the service's own first run, which would take most of the time."""
    operator.insist("POST", "/train", json=body("linear"))
    for run in _all_runs(operator):
        if run["name"] not in SPECS:
            operator.insist("POST", f"/train/{run['id']}/cancel")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := operator.ask("GET", "/readyz")) is None or answer.status_code != 200:
        assert time.monotonic() < deadline, f"the cluster did not start within {PATIENCE_SECONDS} s"
        time.sleep(0.2)


def _disturb(
    running: Cluster, options: Options, notes: Notes, stop: threading.Event, chaos: Chaos, operator: User
) -> None:
    """Until all runs have been asked for and most have ended, or the time is over."""
    users = [User(running, name, notes, random.Random(f"{options.seed} {name}"), stop) for name in USERS]
    shares = [options.runs // len(users) + (number < options.runs % len(users)) for number in range(len(users))]
    watching = threading.Event()
    watcher = User(running, OPERATOR, notes, random.Random(f"{options.seed} watcher"), watching)
    deadline = time.monotonic() + options.fault_seconds
    chaos.start()
    with ThreadPoolExecutor(len(users) + 1) as pool:
        looking = pool.submit(watcher.look_around)
        asking = [
            pool.submit(user.queue, options.names, share, options.fault_seconds / 2)
            for user, share in zip(users, shares, strict=True)
        ]
        while time.monotonic() < deadline and not (all(task.done() for task in asking) and _most_ended(operator)):
            time.sleep(1.0)
        chaos.stop()
        for task in asking:
            task.result()
        watching.set()
        looking.result()


def _most_ended(operator: User) -> bool:
    """Faults that nobody suffers from would be no faults."""
    runs = _all_runs(operator)
    return sum(run["state"] in ENDED for run in runs) >= 0.8 * len(runs)


def _wait_for_ends(operator: User, seconds: float) -> bool:
    """False once no run has ended for so many seconds while some still should."""
    most, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = _all_runs(operator)
        ended = sum(run["state"] in ENDED for run in runs)
        if ended == len(runs):
            return True
        if ended > most:
            most, deadline = ended, time.monotonic() + seconds
        time.sleep(0.5)
    return False


def _all_runs(operator: User) -> list[dict[str, Any]]:
    """Those too whose answer got lost on the way to the user."""
    runs: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        page = _read(operator, f"/train?limit=100&offset={offset}")
        runs += page["runs"]
        offset = page["next_offset"]
    return runs


def _read(operator: User, path: str) -> Any:
    response = operator.insist("GET", path)
    assert response is not None and response.status_code == 200, f"{path}: {response}"
    return response.json()


def _judge(operator: User, notes: Notes, expected: dict[str, bytes]) -> Outcome:
    runs = {run["id"]: run for run in _all_runs(operator)}
    models = _read(operator, "/models")["models"]
    of_run: dict[str, list[str]] = {}
    for model in models:
        of_run.setdefault(model["run"], []).append(model["id"])
    verdict = Verdict(surprising=[*notes.unexpected])
    for run in {**runs, **notes.accepted}:
        _judge_run(run, runs.get(run), of_run.get(run, []), run in notes.cancelled, verdict)
    deadline = time.monotonic() + SOON_SECONDS
    while (torn := _torn(runs, notes)) and time.monotonic() < deadline:
        time.sleep(0.2)  # the watchers hear of the end a moment later
    verdict.torn = torn
    for model in models:
        response = operator.insist("GET", f"/models/{model['id']}/download")
        if response is None or response.content != expected.get(model["name"]):
            verdict.differing.append(f"model {model['id']} of run {model['run']}: {model['name']}")
    defaults = [model["id"] for model in models if "default" in model["aliases"]]
    verdict.stale = operator.who_does_not_answer_with(defaults[0]) if len(defaults) == 1 else [f"default: {defaults}"]
    return Outcome(runs, models, verdict)


def _torn(runs: dict[str, dict[str, Any]], notes: Notes) -> list[str]:
    with notes.lock:
        watched = [(run, said, runs.get(run, {}).get("state")) for run, said in notes.watched.items()]
    return [f"the stream of run {run}, {state}, says: {said}" for run, said, state in watched if said != state]


def _judge_run(run: str, found: dict[str, Any] | None, models: list[str], cancelled: bool, verdict: Verdict) -> None:
    if found is None:
        verdict.lost.append(f"{run}: accepted, but unknown")
        return
    state, error, named = found["state"], found["error"], found["model"]
    said = f"{run}: {state}, error {error!r}, model {named}, published {models}"
    if state not in ENDED or (state == "failed" and not error) or (state == "succeeded" and named not in models):
        verdict.lost.append(said)
    if len(models) > 1 or (models and state == "failed" and named is None):
        verdict.doubled.append(said)
    if (cancelled and state != "cancelled") or (state == "cancelled" and models):
        verdict.revived.append(said)
    if error and not any(reason in error for reason in BY_DESIGN):
        verdict.surprising.append(said)


def _report(options: Options, notes: Notes, chaos: Chaos, outcome: Outcome, left: list[int], seconds: float) -> str:
    states = Counter(run["state"] for run in outcome.runs.values())
    failures = Counter(run["error"] for run in outcome.runs.values() if run["state"] == "failed")
    unconfirmed = len(set(outcome.runs) - set(notes.accepted))
    verdict = outcome.verdict
    lines = [
        f"database     {options.database}, seed {options.seed}",
        f"cluster      {options.apis} API processes, {options.workers} workers",
        f"runs         {len(notes.accepted)} accepted of {len(USERS)} users, {unconfirmed} more whose 202 got lost or"
        " that are the harness' own",
        f"faults       {sum(chaos.counts.values())}: {_counted(chaos.counts)}",
        *(f"SKIPPED      {fault}: {why}" for fault, why in chaos.skipped.items()),
        f"ended        {_counted(states)}; models {len(outcome.models)}",
        *(f"failed       {count} × {error}" for error, count in failures.most_common()),
        f"refused      {_counted(notes.refusals)}",
        *(f"             no answer in {ANSWER_SECONDS:.0f} s: {said}" for said in notes.unanswered[:20]),
        f"lost {len(verdict.lost)}, doubled {len(verdict.doubled)}, differing {len(verdict.differing)},"
        f" revived {len(verdict.revived)}, torn {len(verdict.torn)}, stale {len(verdict.stale)},"
        f" surprising {len(verdict.surprising)}, processes left {len(left)}",
        *(f"             {said}" for said in verdict.findings()),
        f"seconds      {seconds:.0f}",
    ]
    return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _options() -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), required=True)
    parser.add_argument("--runs", type=int, default=50, help="that the users queue")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--apis", type=int, default=2)
    parser.add_argument("--specs", type=int, default=len(SPECS), help="different ones")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of what users do")
    parser.add_argument("--gap-seconds", type=float, default=3.0, help="mean time between two faults of a kind")
    parser.add_argument("--fault-seconds", type=float, default=240.0, help="that faults go on at most")
    parser.add_argument("--wait-seconds", type=float, default=120.0, help="that pass at most until one more run ends")
    parser.add_argument("--folder", type=Path, help="keeps logs and data here")
    given = vars(parser.parse_args())
    folder = given.pop("folder")
    return Options(**given), folder


def main() -> None:
    options, given = _options()
    folder = given or Path(tempfile.mkdtemp(prefix="inkling-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL's user passes through
    survived = torture(options, folder)
    if survived and not given:
        shutil.rmtree(folder)
    else:
        print(f"logs         {folder}")
    sys.exit(not survived)


if __name__ == "__main__":
    main()
