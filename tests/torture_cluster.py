"""The service as a cluster of real processes on loopback, kept running as an orchestrator would keep it."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from app.settings import Settings
from tests.postgresql import Postgresql, binaries, spare_port
from tests.processes import ROOT, all_pids, pids, send, trainers, wait_for

Kind = Literal["sqlite", "postgresql"]
USERS = ("ada", "ben", "cleo", "dan", "eva")
OPERATOR = "operator"
RESTART_SECONDS = 0.7
STOP_SECONDS = 20.0
DEAD_SECONDS = 4.0
DISK_MEGABYTES = {"sqlite": 64, "postgresql": 288}
CLOCK_FOLDER = Path(__file__).parent / "clock"


class Clock:
    """The wall clock of the processes that read its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0.0)

    def set(self, offset_seconds: float) -> None:
        """In place: the processes have the file mapped."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("d", offset_seconds))


class Disk:
    """A small file system of its own in memory, which can be filled. Raises DiskRefusedError where none may be made."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "inkling-torture", str(folder)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise DiskRefusedError(str(error)) from None
        if result.returncode:
            raise DiskRefusedError(result.stderr.strip())

    def fill(self) -> None:
        """To the last block."""
        with (self.folder / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 18))

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


class DiskRefusedError(RuntimeError):
    """Whoever runs the test may not mount."""


class Node:
    """One command on a machine of its own, started again when it ends, unless it is held down."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], clock: Clock, log: Path):
        self.name, self.clock, self.held = name, clock, False
        self._command, self._environment, self._log = command, environment, log
        self._ended_at: float | None = None
        self._lock = threading.Lock()
        self._process = self._start()

    @property
    def data_dir(self) -> Path:
        return Path(self._environment["INKLING_DATA_DIR"])

    @property
    def _mark(self) -> str:
        return f"TEST_NODE={self._environment['TEST_NODE']}"

    def pids(self, module: str = "") -> list[int]:
        """Its living processes whose command line has the module's name."""
        return pids(self._mark, module)

    def trainers(self) -> list[int]:
        return trainers(self._mark)

    def keep_running(self) -> None:
        with self._lock:
            if self._process.poll() is None:
                return
            now = time.monotonic()
            self._ended_at = self._ended_at or now
            if not self.held and now - self._ended_at >= RESTART_SECONDS:
                self._ended_at = None
                self._process = self._start()

    def end(self, number: signal.Signals) -> None:
        """Signals the command itself, not what it has started."""
        with self._lock:
            if self._process.poll() is None:
                self._process.send_signal(number)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class Server(Postgresql):
    """PostgreSQL on a small disk, kept running too."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.held = False
        self._data = folder / "data"
        self._lock = threading.Lock()
        super().__init__(programs, folder)

    def start(self) -> None:
        """With a log of changes that fits on the disk."""
        settings = self._data / "postgresql.auto.conf"
        if "max_wal_size" not in settings.read_text():
            settings.write_text("max_wal_size = 96MB\nmin_wal_size = 32MB\n")
        super().start()

    def keep_running(self) -> None:
        with self._lock:
            if not self.held and self.process.poll() is not None:
                self._start_again()

    def crash(self) -> None:
        with self._lock:
            self.held = True
            self.kill()

    def pids(self) -> list[int]:
        """Its processes, the helpers of one that was killed included."""
        return [pid for pid in all_pids() if _works_in(pid, self._data)]

    def _start_again(self) -> None:
        """Its disk may still be full, and its predecessor's helpers may still be ending."""
        wait_for(lambda: not self.pids(), 20)
        with contextlib.suppress(AssertionError):
            self.start()


def _works_in(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    return False


class Cluster:
    """API processes and workers over one database."""

    def __init__(self, kind: Kind, apis: list[Node], workers: list[Node], server: Server | None, urls: list[str]):
        self.kind, self.apis, self.workers, self.server, self.urls = kind, apis, workers, server, urls
        self.disk: Disk | None = None
        self.no_disk = ""  # why a full disk cannot be tried here
        self.keys = KEYS
        self._stopping = threading.Event()
        self._keepers = [
            threading.Thread(target=self._keep, args=(keep,), daemon=True)
            for keep in (self._keep_nodes, *([server.keep_running] if server else []))
        ]
        for keeper in self._keepers:
            keeper.start()

    @property
    def nodes(self) -> list[Node]:
        return [*self.apis, *self.workers]

    def stop(self) -> None:
        """As an operator stops it: nothing is started again, everything is told to end."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join()
        for node in self.nodes:
            node.end(signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: all(node.ended() for node in self.nodes), STOP_SECONDS)

    def _keep(self, keep: Callable[[], None]) -> None:
        while not self._stopping.wait(0.1):
            keep()

    def _keep_nodes(self) -> None:
        for node in self.nodes:
            node.keep_running()


KEYS = {user: f"key of {user}" for user in (*USERS, OPERATOR)}
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "INKLING_API_KEYS": json.dumps(KEYS),
    "INKLING_PRIORITY_USERS": json.dumps([OPERATOR]),
    "INKLING_MAX_QUEUED_RUNS": "10000",
    "INKLING_MAX_QUEUED_RUNS_PER_USER": "10000",
    "INKLING_HEARTBEAT_SECONDS": "1",
    "INKLING_DEAD_SECONDS": str(DEAD_SECONDS),
    "INKLING_CHECKPOINT_SECONDS": "0.3",
    "PYTHONPATH": str(CLOCK_FOLDER),
}


@contextmanager
def cluster(kind: Kind, folder: Path, cache_dir: Path, *, workers: int, apis: int, mark: str) -> Iterator[Cluster]:
    """Started, and ended afterwards whatever happens; its logs and data are in the folder."""
    with ExitStack() as stack:
        store = folder / "store"
        store.mkdir()
        disk, refused = None, ""
        try:
            disk = Disk(store, DISK_MEGABYTES[kind])
            stack.callback(disk.unmount)
        except DiskRefusedError as error:
            refused = str(error)
        server = stack.enter_context(_server(store)) if kind == "postgresql" else None
        stack.callback(_kill_all, mark)
        url = server.new_database() if server else ""
        shared_clock = Clock(folder / "clock")
        urls = [f"http://127.0.0.1:{spare_port()}" for _ in range(apis)]

        def node(name: str, *command: str, **settings: str) -> Node:
            """On SQLite all are on one machine, with one folder and one clock."""
            data_dir = folder / name if server else store
            clock = Clock(folder / f"clock-{name}") if server else shared_clock
            environment = {key: value for key, value in os.environ.items() if not key.startswith("INKLING_")}
            environment |= SETTINGS | settings
            environment |= {"TEST_MARK": mark, "TEST_NODE": f"{mark}-{name}"}
            environment |= {"INKLING_CACHE_DIR": str(cache_dir), "INKLING_DATABASE_URL": url}
            environment |= {"INKLING_DATA_DIR": str(data_dir), "TEST_CLOCK": str(clock.path)}
            return Node(name, (sys.executable, "-m", "app.cli", *command), environment, clock, folder / f"{name}.log")

        running = Cluster(
            kind,
            [node(f"api-{n}", "api", INKLING_PORT=url.rpartition(":")[2]) for n, url in enumerate(urls)],
            [node(f"worker-{n}", "worker") for n in range(workers)],
            server,
            urls,
        )
        stack.callback(running.stop)
        running.disk, running.no_disk = disk, refused
        yield running


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    programs = binaries()
    assert programs is not None, "no PostgreSQL server here: apt-get install postgresql"
    server = Server(programs, folder)
    try:
        yield server
    finally:
        server.stop()


def _kill_all(mark: str) -> None:
    """The last resort; who wants to know whether anything was left behind has looked before."""
    send(pids(f"TEST_MARK={mark}"), signal.SIGKILL)


def own_cache(folder: Path) -> Path:
    """A copy of the cache: processes are killed in the midst of writing compiled code."""
    cache, copy = Settings().cache_dir, folder / "cache"
    with contextlib.suppress(shutil.Error):  # somebody has deleted an entry meanwhile: all over again
        return shutil.copytree(cache, copy)
    return shutil.copytree(cache, copy, dirs_exist_ok=True)


def new_mark() -> str:
    return secrets.token_hex(8)
