"""How the service bears a class: whom the queue serves, what its pages and a thousand watchers of one run cost, and how
soon those who draw are answered while it trains.

    .venv/bin/python -m benchmarks.load fairness --runs 200 --users 30
    .venv/bin/python -m benchmarks.load pages --pages 300 --seconds 30
    .venv/bin/python -m benchmarks.load watchers --watchers 1000 --seconds 30
    .venv/bin/python -m benchmarks.load drawers --drawers 30 --seconds 20

All start a service of their own, on loopback, with its data in a temporary folder. INKLING_DATABASE_URL chooses its
database, as everywhere.
"""

import argparse
import asyncio
import json
import math
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from dbos import DBOSClient

from app.database import queue_url
from app.run_queue import STREAM
from app.settings import Settings
from benchmarks.promptness import trains
from benchmarks.serving_peers.process import cpu_seconds
from tests.drawings import draw, encoded
from tests.models import FirstModel
from tests.processes import LONG_SPEC, SMALL_SPEC, Service, serving, wait_for

QUIET = {"INKLING_LOG_LEVEL": "ERROR"}
POLL_SECONDS = 0.5
REFERENCE_POLL_SECONDS = 0.005
SETTLE_SECONDS = 30.0
DRAIN_SECONDS = 5.0
PAGE_SETTLE_SECONDS = 10.0
DRAW_SETTLE_SECONDS = 2.0
DRAW_PAUSE_SECONDS = (0.2, 0.4)  # while a stroke grows
PAGE_PAUSE_SECONDS = (4.0, 5.0)  # static/run-view.js, static/run-list.js, static/poll.js


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    fairness = commands.add_parser("fairness", help="runs queued by users of very different appetite")
    fairness.add_argument("--runs", type=int, default=200)
    fairness.add_argument("--users", type=int, default=30)
    fairness.add_argument("--workers", type=int, default=2)
    fairness.add_argument("--minutes", type=float, default=60.0, help="after which no more runs are waited for")
    fairness.set_defaults(measure=measure_fairness)
    pages = commands.add_parser("pages", help="open pages, each with a run that waits in the queue")
    pages.add_argument("--pages", type=int, default=300)
    pages.add_argument("--seconds", type=float, default=30.0)
    pages.set_defaults(measure=measure_pages)
    watchers = commands.add_parser("watchers", help="event streams of one run, all open at once")
    watchers.add_argument("--watchers", type=int, default=1000)
    watchers.add_argument("--seconds", type=float, default=30.0)
    watchers.set_defaults(measure=measure_watchers)
    drawers = commands.add_parser("drawers", help="people who draw, while a training runs and while none does")
    drawers.add_argument("--drawers", type=int, default=30)
    drawers.add_argument("--seconds", type=float, default=20.0)
    drawers.add_argument("--preset", default="accurate", help="what is trained")
    drawers.set_defaults(measure=measure_drawers)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="inkling-load-") as folder:
        arguments.measure(Path(folder), arguments)


def measure_fairness(folder: Path, arguments: argparse.Namespace) -> None:
    """Some users ask for one run, some for twenty; whoever waits must not wait for another's twentieth."""
    users = [f"user {number:02}" for number in range(arguments.users)]
    keys = {user: f"key of {user}" for user in users}
    limits = {"INKLING_MAX_QUEUED_RUNS": "10000", "INKLING_MAX_QUEUED_RUNS_PER_USER": "10000"}
    settings = {"INKLING_API_KEYS": json.dumps(keys), "INKLING_WORKERS": str(arguments.workers), **limits}
    with serving(folder, **QUIET, **settings) as service:
        service.ready()  # its own first run is over
        started = time.monotonic()
        owners = queue_runs(service.http, keys, arguments.runs)
        queued_seconds = time.monotonic() - started
        runs = wait_for_starts(service.http, len(owners), 60 * arguments.minutes)
    turns = sorted((run["started_at"], owners[run["id"]]) for run in runs if run["id"] in owners)
    asked = [list(owners.values()).count(user) for user in users]
    waits = waits_of_first_runs(runs, owners)
    print(f"{len(owners)} runs of {len(users)} users, {min(asked)} to {max(asked)} each, {arguments.workers} workers")
    print(f"queued in {queued_seconds:.1f} s; {len(turns)} had started after {time.monotonic() - started:.0f} s")
    print(f"largest difference in runs served between two users who both waited: {largest_lead(turns, owners)}")
    print(f"wait for a user's first run: {min(waits):.1f} to {max(waits):.1f} s, median {statistics.median(waits):.1f}")


def queue_runs(http: httpx2.Client, keys: dict[str, str], count: int) -> dict[str, str]:
    """The user who asked for each run. The greedy ask first, all at once: the worst case for the others."""
    draw = random.Random(0)
    weights = [draw.paretovariate(1.0) for _ in keys]
    wanted = [*keys, *draw.choices([*keys], weights, k=count - len(keys))]
    owners = {}
    for user in sorted(wanted, key=lambda user: -wanted.count(user)):
        answer = http.post("/train", json=SMALL_SPEC, headers={"Authorization": f"Bearer {keys[user]}"})
        assert answer.status_code == 202, answer.text
        owners[answer.json()["id"]] = user
    return owners


def wait_for_starts(http: httpx2.Client, count: int, seconds: float) -> list[dict[str, Any]]:
    """The runs that have started once all have, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        runs: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = http.get("/train", params={"limit": 100, "offset": offset}).json()
            runs, offset = runs + page["runs"], page["next_offset"]
        started = [run for run in runs if run["started_at"]]
        if len(started) > count or time.monotonic() > deadline:  # the service's own first one is among them
            return started
        time.sleep(5 * POLL_SECONDS)


def largest_lead(turns: list[tuple[str, str]], owners: dict[str, str]) -> int:
    """Over all moments and pairs of users who both still wait: by how many runs one is ahead of the other."""
    left, served, lead = Counter(owners.values()), Counter[str](), 0
    for _, user in turns:
        left[user] -= 1
        served[user] += 1
        waiting = [served[other] for other, count in left.items() if count]
        lead = max([lead, *(served[user] - count for count in waiting)])
    return lead


def waits_of_first_runs(runs: list[dict[str, Any]], owners: dict[str, str]) -> list[float]:
    """Of each user, in seconds: from the first request to the first start."""
    asked: dict[str, float] = {}
    started: dict[str, float] = {}
    for run in runs:
        if user := owners.get(run["id"]):
            asked[user] = min(seconds_of(run["created_at"]), asked.get(user, math.inf))
            started[user] = min(seconds_of(run["started_at"]), started.get(user, math.inf))
    return [started[user] - asked[user] for user in started]


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def measure_pages(folder: Path, arguments: argparse.Namespace) -> None:
    """No worker: all the runs stay in the queue."""
    limits = {"INKLING_MAX_QUEUED_RUNS_PER_USER": "10000", "INKLING_MAX_QUEUED_RUNS": "10000"}
    with serving(folder, "api", **QUIET, **limits) as service:
        runs = [service.train(**SMALL_SPEC) for _ in range(arguments.pages)]
        asyncio.run(poll(service, runs, arguments.seconds))


async def poll(service: Service, runs: list[str], seconds: float) -> None:
    run_seconds, list_seconds = list[float](), list[float]()
    watching = [asyncio.create_task(read_stream(service.url, run, {})) for run in runs]
    asking = [asyncio.create_task(look_again(service.url, run, run_seconds, list_seconds)) for run in runs]
    await asyncio.sleep(PAGE_SETTLE_SECONDS)
    run_seconds.clear()
    list_seconds.clear()
    (api,) = service.pids("app.main")
    cpu, began = cpu_seconds(api), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, took = cpu_seconds(api) - cpu, time.monotonic() - began
    assert not any(task.done() for task in (*watching, *asking)), "all were answered"
    for task in (*watching, *asking):
        task.cancel()
    count = len(run_seconds) + len(list_seconds)
    print(f"{len(runs)} pages with a queued run each, {took:.0f} s: {count / took:.0f} requests/s")
    print(f"CPU of the API process: {100 * cpu / took:.0f} % of a core, {1e3 * cpu / count:.2f} ms a request")
    for request, taken in (("GET /train/{id}", run_seconds), ("GET /train", list_seconds)):
        p50, p95 = percentiles(taken, 0.5, 0.95)
        print(f"{request}: p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} (n = {len(taken)})")


def percentiles(values: list[float], *shares: float) -> list[float]:
    ordered = sorted(values)
    return [ordered[int(share * (len(ordered) - 1))] for share in shares]


async def look_again(url: str, run: str, run_seconds: list[float], list_seconds: list[float]) -> None:
    """As the page does; over a new connection each time, since the server closes one that rests for 5 s."""
    host, port = url.removeprefix("http://").split(":")
    await asyncio.sleep(random.uniform(0, max(PAGE_PAUSE_SECONDS)))
    while True:
        reader, writer = await asyncio.open_connection(host, int(port))
        run_seconds.append(await seconds_to_answer(reader, writer, f"/train/{run}"))
        list_seconds.append(await seconds_to_answer(reader, writer, "/train?limit=6&offset=0"))
        writer.close()
        await asyncio.sleep(random.uniform(*PAGE_PAUSE_SECONDS))


async def seconds_to_answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, image: bytes = b""
) -> float:
    asked = time.monotonic()
    about = f"Content-Type: image/png\r\nContent-Length: {len(image)}\r\n" if image else ""
    writer.write(f"{'POST' if image else 'GET'} {path} HTTP/1.1\r\nHost: inkling\r\n{about}\r\n".encode() + image)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200") and length is not None, head
    await reader.readexactly(int(length[1]))
    return time.monotonic() - asked


def measure_drawers(folder: Path, arguments: argparse.Namespace) -> None:
    with serving(FirstModel(folder)(folder / "data"), **QUIET) as service:
        service.ready()

        def draw_while(what: str) -> None:
            asyncio.run(draw_for(service.url, what, arguments))

        draw_while("no training")
        run = service.train(preset=arguments.preset)
        wait_for(lambda: trains(service, run, None), pause_seconds=POLL_SECONDS)
        alone = steps_a_second(service, run, lambda: time.sleep(arguments.seconds))
        beside = steps_a_second(service, run, lambda: draw_while(f"{arguments.preset} trains"))
        print(f"{beside:.1f} steps/s of the training, {alone:.1f} before anybody drew")


async def draw_for(url: str, when: str, arguments: argparse.Namespace) -> None:
    taken = list[float]()
    drawing = [asyncio.create_task(draw_again(url, taken)) for _ in range(arguments.drawers)]
    await asyncio.sleep(DRAW_SETTLE_SECONDS)
    taken.clear()
    await asyncio.sleep(arguments.seconds)
    assert not any(task.done() for task in drawing), "all were answered"
    for task in drawing:
        task.cancel()
    p50, p95, p99, most = (1e3 * seconds for seconds in percentiles(taken, 0.5, 0.95, 0.99, 1.0))
    rate = len(taken) / arguments.seconds
    print(f"{when}: p50 {p50:.1f} ms, p95 {p95:.1f}, p99 {p99:.1f}, most {most:.0f} ({rate:.0f} requests/s)")


def steps_a_second(service: Service, run: str, meanwhile: Callable[[], None]) -> float:
    before, began = step_of(service, run), time.monotonic()
    meanwhile()
    return (step_of(service, run) - before) / (time.monotonic() - began)


def step_of(service: Service, run: str) -> int:
    return int(service.get(f"/train/{run}")["progress"]["step"])


async def draw_again(url: str, taken: list[float]) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    image = encoded(draw(7).resize((112, 112)))  # as large as the page's
    await asyncio.sleep(random.uniform(0, max(DRAW_PAUSE_SECONDS)))
    while True:
        taken.append(await seconds_to_answer(reader, writer, "/predict", image))
        await asyncio.sleep(random.uniform(*DRAW_PAUSE_SECONDS))


def measure_watchers(folder: Path, arguments: argparse.Namespace) -> None:
    with serving(folder, **QUIET) as service:
        service.ready()
        run = service.train(**LONG_SPEC)
        wait_for(lambda: trains(service, run, None), pause_seconds=POLL_SECONDS)
        asyncio.run(watch(service, run, Settings(data_dir=folder).database, arguments))


async def watch(service: Service, run: str, database: str, arguments: argparse.Namespace) -> None:
    """Every arrival is compared with when a reader of the database itself saw the same event first."""
    count, written = arguments.watchers, dict[int, float]()
    (api,) = service.pids("app.main")
    arrivals: list[dict[int, float]] = [{} for _ in range(count)]
    reference = asyncio.create_task(read_database(database, run, written))
    tasks = [asyncio.create_task(read_stream(service.url, run, seen)) for seen in arrivals]
    await asyncio.sleep(SETTLE_SECONDS)  # all are connected, and have caught up
    first, cpu, began = max(written), cpu_seconds(api), time.monotonic()
    await asyncio.sleep(arguments.seconds)
    last, cpu, took = max(written), cpu_seconds(api) - cpu, time.monotonic() - began
    await asyncio.sleep(DRAIN_SECONDS)  # late is not missed
    for task in (reference, *tasks):
        task.cancel()
    events = range(first + 1, last + 1)
    delays = [seen[event] - written[event] for seen in arrivals for event in events if event in seen]
    missed = count * len(events) - len(delays)
    print(f"{count} watchers of one run, {took:.0f} s, {len(events) / took:.1f} events/s each, {missed} missed")
    p50, p95, p99, most = percentiles(delays, 0.5, 0.95, 0.99, 1.0)
    print(f"delay behind the database, s: p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f}, most {most:.3f}")
    print(f"CPU of the API process: {100 * cpu / took:.0f} % of a core, {1e6 * cpu / len(delays):.0f} µs an event sent")


async def read_database(database: str, run: str, written: dict[int, float]) -> None:
    client = DBOSClient(system_database_url=queue_url(database))
    try:
        stream = client.read_stream_async(run, STREAM, polling_interval_sec=REFERENCE_POLL_SECONDS)
        async for _ in stream:
            written[len(written)] = time.monotonic()
    finally:
        client.destroy()


async def read_stream(url: str, run: str, seen: dict[int, float]) -> None:
    """A bare socket: the reader must cost little beside what it measures."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET /train/{run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        async for line in reader:
            if line.startswith(b"id: "):
                seen[int(line[4:])] = time.monotonic()
    finally:
        writer.close()


if __name__ == "__main__":
    main()
