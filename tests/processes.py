"""Real service processes for tests: started as a user starts them, found and ended by pid."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

ROOT = Path(__file__).parent.parent
PATIENCE_SECONDS = 240.0  # that a training may take where everything shares two cores
SOON_SECONDS = 30.0  # what takes a second or two where there is time; never, or minutes, where it is not done at all
ASKING_PAUSE_SECONDS = 0.2  # between questions: each takes processor time from what it asks about
SMALL_SPEC: dict[str, Any] = {
    "name": "small",
    "network": [{"type": "flatten"}, {"type": "dense", "units": 10, "activation": "softmax"}],
    "batch_size": 1000,
    "epochs": 1,
}
LONG_SPEC = {**SMALL_SPEC, "name": "long", "epochs": 1000, "batch_size": 10}


class Service:
    """A running `inkling`. Its processes are known by an environment variable that all of them inherit."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, mark: str) -> None:
        self.process, self.url, self._mark = process, url, mark
        self.http = httpx2.Client(base_url=url, timeout=60)

    def close(self) -> None:
        self.http.close()

    def pids(self, module: str = "") -> list[int]:
        """Its living processes whose command line has the module's name."""
        return pids(f"TEST_MARK={self._mark}", module)

    def trainers(self) -> list[int]:
        """Those of its processes that train."""
        return trainers(f"TEST_MARK={self._mark}")

    def kill(self, module: str) -> None:
        """kill -9, as the machine's out-of-memory killer would. Returns when the process and its sockets are gone."""
        (pid,) = self.pids(module)
        os.kill(pid, signal.SIGKILL)
        # Until its parent has reaped it: one that is still ending is in no list, yet takes and resets connections.
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), SOON_SECONDS)

    def get(self, path: str) -> Any:
        response = self.http.get(path)
        response.raise_for_status()
        return response.json()

    def begin(self, path: str, media_type: str, body: str = "") -> socket.socket:
        """A connection whose POST has said how much it is going to send, and has sent the body's beginning."""
        address = urlsplit(self.url)
        connection = socket.create_connection((address.hostname, address.port), SOON_SECONDS)
        head = f"POST {path} HTTP/1.1\r\nHost: inkling\r\nContent-Type: {media_type}\r\nContent-Length: 9999\r\n\r\n"
        connection.sendall((head + body).encode())
        return connection

    def train(self, **spec: Any) -> str:
        response = self.http.post("/train", json=spec)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def cancel_runs(self) -> None:
        """Those that wait or are trained."""
        for run in self.get("/train")["runs"]:
            if run["state"] in ("queued", "running"):
                self.http.post(f"/train/{run['id']}/cancel")

    def wait_for_state(self, run: str, *states: str) -> dict[str, Any]:
        wait_for(lambda: self.get(f"/train/{run}")["state"] in states, pause_seconds=ASKING_PAUSE_SECONDS)
        return dict(self.get(f"/train/{run}"))

    def ended(self, run: str) -> dict[str, Any]:
        return self.wait_for_state(run, "succeeded", "failed", "cancelled")

    def ready(self) -> None:
        wait_for(lambda: self.http.get("/readyz").status_code == 200, pause_seconds=ASKING_PAUSE_SECONDS)


@contextmanager
def serving(data_dir: Path, command: str = "serve", **settings: str) -> Iterator[Service]:
    """`inkling serve`, or `api`, on a free loopback port; afterwards no process of it is left."""
    with _inkling(command, data_dir, {"INKLING_PORT": "0", **settings}) as (process, mark):
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None, "it says where it listens"
        with closing(Service(process, url[0], mark)) as service:
            service.http.get("/healthz", timeout=PATIENCE_SECONDS)  # it listens before it can answer
            yield service


@contextmanager
def working(data_dir: Path, **settings: str) -> Iterator[Service]:
    """`inkling worker`."""
    with (
        _inkling("worker", data_dir, settings) as (process, mark),
        closing(Service(process, "http://127.0.0.1:9", mark)) as service,
    ):
        yield service


@contextmanager
def _inkling(command: str, data_dir: Path, settings: dict[str, str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    mark = secrets.token_hex(8)
    environment = {**os.environ, "INKLING_DATA_DIR": str(data_dir), **settings, "TEST_MARK": mark}
    arguments = (sys.executable, "-m", "app.cli", command)
    with subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, mark
        finally:
            _end(process, f"TEST_MARK={mark}")


def _end(process: "subprocess.Popen[str]", mark: str) -> None:
    """As an operator would; whatever that leaves is killed, lest it disturb the tests that follow."""
    send(pids(mark), signal.SIGCONT)  # a test that failed may have left some asleep
    process.terminate()
    try:
        process.wait(SOON_SECONDS)
        wait_for(lambda: not pids(mark))
    finally:
        send(pids(mark), signal.SIGKILL)


def send(receivers: Iterable[int], number: signal.Signals) -> bool:
    """Whether there was anybody to hear it; who has ended meanwhile does not."""
    heard = False
    for pid in receivers:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            heard = True
    return heard


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def pids(mark: str, module: str = "") -> list[int]:
    """The living processes with the mark in their environment and the module's name in their command line."""
    found = []
    for pid in all_pids():
        with suppress(OSError):  # ended meanwhile
            # Most end here: an environment is long, and taken from the process' own memory.
            if module.encode() in _read(pid, "cmdline") and mark.encode() in _read(pid, "environ").split(b"\0"):
                found.append(pid)
    return found


def trainers(mark: str) -> list[int]:
    """Those that train, each a fork, in its process group, of one that waits for the next run."""
    found = []
    for pid in pids(mark, "app.trainer"):
        with suppress(OSError):  # ended meanwhile
            if os.getpgid(pid) != pid:
                found.append(pid)
    return found


def _read(pid: int, what: str) -> bytes:
    """Without pathlib, which takes three times as long: tests that wait ask 20 times a second, of every process."""
    with open(f"/proc/{pid}/{what}", "rb") as file:
        return file.read()


def parent(pid: int) -> int:
    return int(told_of(pid, "PPid"))


def told_of(pid: int, name: str) -> str:
    """A line of what the kernel tells of a process."""
    return _read(pid, "status").decode().partition(f"{name}:")[2].partition("\n")[0].strip()


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS, pause_seconds: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(pause_seconds)
