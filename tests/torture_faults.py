"""What may happen to a cluster, drawn from a seeded generator: each fault strikes, lasts, and passes."""

import contextlib
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.processes import send
from tests.torture_cluster import DEAD_SECONDS, Cluster, Node

API, API_PARENT, WORKER, TRAINER = "app.main", "app.cli\0api", "app.cli\0worker", "app.trainer"
HOUR_SECONDS = 3600.0


class Chaos:
    """Two threads of faults, so that one of each kind may happen at once: to processes, and to what they stand on."""

    def __init__(self, cluster: Cluster, seed: int, gap_seconds: float, log: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self._cluster, self._log, self._gap_seconds = cluster, log, gap_seconds
        self._started_at = time.monotonic()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._strike, args=(random.Random(f"{seed} {kinds}"), weights))
            for kinds, weights in (("processes", _PROCESS_FAULTS), ("ground", self._ground_faults()))
            if weights
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when every fault has passed."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def note(self, what: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self._started_at:7.2f} {what}\n")

    def hold(self, seconds: float) -> None:
        """Until the faults are over at the latest."""
        self._over.wait(seconds)

    def _ground_faults(self) -> "dict[Fault, int]":
        faults: dict[Fault, int] = {clock_jumps: 3}
        if self._cluster.server:
            faults[database_is_killed] = 3
        if self._cluster.disk:
            faults[disk_is_full] = 3
        else:
            self.skipped["disk is full"] = self._cluster.no_disk
        return faults

    def _strike(self, draw: random.Random, weights: "dict[Fault, int]") -> None:
        """Every kind once at first, then by weight."""
        due = draw.sample(list(weights), len(weights))
        while not self._over.wait(self._gap_seconds * draw.uniform(0.4, 1.6)):
            fault = due.pop() if due else draw.choices(list(weights), list(weights.values()))[0]
            name = fault.__name__.replace("_", " ")
            with fault(self._cluster, draw) as (target, seconds):
                if target:
                    self.counts[name] += 1
                    self.note(f"{name}: {target}, for {seconds:.1f} s")
                    self.hold(seconds)
            if not target:
                due.insert(0, fault)
            elif seconds:
                self.note(f"{name}: {target} is over")


Struck = tuple[str, float]  # what it has hit, nothing where there was nothing to hit; and the seconds that it lasts
Fault = Callable[[Cluster, random.Random], contextlib.AbstractContextManager[Struck]]


@contextlib.contextmanager
def api_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """The process that answers; its parent starts it again."""
    yield _kill(draw.choice(cluster.apis), API)


@contextlib.contextmanager
def api_parent_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    yield _kill(draw.choice(cluster.apis), API_PARENT)


@contextlib.contextmanager
def worker_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    yield _kill(draw.choice(cluster.workers), WORKER)


@contextlib.contextmanager
def worker_is_restarted(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """SIGTERM, as at an update: its run is handed back."""
    node = draw.choice(cluster.workers)
    node.end(signal.SIGTERM)
    yield node.name, 0.0


@contextlib.contextmanager
def trainer_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    yield _kill(_training(cluster, draw), TRAINER)


@contextlib.contextmanager
def power_is_cut(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """A worker's whole machine; what replaces it comes after the others took its run over, perhaps with a new disk."""
    node, wiped = draw.choice(cluster.workers), draw.random() < 0.5
    node.held = True
    try:
        for module in (WORKER, TRAINER):
            send(node.pids(module), signal.SIGKILL)
        yield node.name, draw.uniform(1.2, 2.5) * DEAD_SECONDS
    finally:
        if wiped and cluster.server:
            shutil.rmtree(node.data_dir, ignore_errors=True)
        node.held = False


@contextlib.contextmanager
def worker_sleeps(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """With its trainer."""
    with _asleep(_training(cluster, draw), draw, WORKER, TRAINER) as struck:
        yield struck


@contextlib.contextmanager
def worker_sleeps_without_its_trainer(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    with _asleep(_training(cluster, draw), draw, WORKER) as struck:
        yield struck


@contextlib.contextmanager
def trainer_sleeps_without_its_worker(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    with _asleep(_training(cluster, draw), draw, TRAINER) as struck:
        yield struck


@contextlib.contextmanager
def trainer_sleeps_while_its_worker_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """It cannot notice, and wakes beside its successor."""
    node = _training(cluster, draw)
    with _asleep(node, draw, TRAINER) as struck:
        if node:
            send(node.pids(WORKER), signal.SIGKILL)
        yield struck


@contextlib.contextmanager
def database_is_killed(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    assert cluster.server, "drawn only where there is one"
    cluster.server.crash()
    try:
        yield "postgresql", draw.uniform(1.0, 3.0)
    finally:
        cluster.server.held = False


@contextlib.contextmanager
def disk_is_full(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """The one that the database is on."""
    assert cluster.disk, "drawn only where there is one"
    cluster.disk.fill()
    try:
        yield "the database's", draw.uniform(1.0, 3.0)
    finally:
        cluster.disk.free()


@contextlib.contextmanager
def clock_jumps(cluster: Cluster, draw: random.Random) -> Iterator[Struck]:
    """By hours, and back."""
    node = draw.choice(cluster.nodes)
    offset_seconds = draw.choice((-1, 1)) * draw.uniform(1.0, 12.0) * HOUR_SECONDS
    node.clock.set(offset_seconds)
    try:
        yield f"{node.clock.path.name} by {offset_seconds / HOUR_SECONDS:+.1f} h", draw.uniform(2.0, 8.0)
    finally:
        node.clock.set(0.0)


_PROCESS_FAULTS: dict[Fault, int] = {
    api_is_killed: 3,
    api_parent_is_killed: 1,
    worker_is_killed: 4,
    worker_is_restarted: 2,
    trainer_is_killed: 1,
    power_is_cut: 2,
    worker_sleeps: 2,
    worker_sleeps_without_its_trainer: 2,
    trainer_sleeps_without_its_worker: 1,
    trainer_sleeps_while_its_worker_is_killed: 2,
}


def _kill(node: Node | None, module: str) -> Struck:
    """Of a trainer, the fork that trains."""
    found = node and (node.trainers() if module == TRAINER else node.pids(module)[:1])
    hit = found and send(found, signal.SIGKILL)
    return (node.name if node and hit else ""), 0.0


def _training(cluster: Cluster, draw: random.Random) -> Node | None:
    """A worker that has one that trains."""
    nodes = [node for node in cluster.workers if node.trainers()]
    return draw.choice(nodes) if nodes else None


@contextlib.contextmanager
def _asleep(node: Node | None, draw: random.Random, *modules: str) -> Iterator[Struck]:
    """For longer than the others wait for a sign of life."""
    stopped = [pid for module in modules for pid in (node.pids(module) if node else [])]
    hit = send(stopped, signal.SIGSTOP)
    try:
        yield (node.name if node and hit else ""), draw.uniform(1.3, 2.2) * DEAD_SECONDS
    finally:
        send(stopped, signal.SIGCONT)
