"""A server's processes: started on a free port, asked until they answer, measured and ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import httpx

START_SECONDS = 120.0
END_SECONDS = 20.0
POLL_SECONDS = 0.01
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerFailedError(RuntimeError):
    """The server ended, did not answer in time, or answered wrongly; its last words where it left any."""


class ServerProcess:
    """A running server and whatever processes it has started."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: IO[str]) -> None:
        self.process, self.url, self._log = process, url, log
        self.started_at = time.perf_counter()

    def seconds_to_first_answer(self, answers: Callable[[], bool]) -> float:
        """Asks until the first right answer; counted from the start of the process."""
        deadline = self.started_at + START_SECONDS
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise ServerFailedError(f"ended with status {self.process.returncode}: {self._last_words()}")
            with suppress(httpx.TransportError):
                if answers():
                    return time.perf_counter() - self.started_at
            time.sleep(POLL_SECONDS)
        raise ServerFailedError(f"no answer within {START_SECONDS:.0f} s: {self._last_words()}")

    def pids(self) -> list[int]:
        """Its process and all that descend from it."""
        children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            children.setdefault(parent, []).append(pid)
        found = [self.process.pid]
        for pid in found:  # grows while it is walked
            found += children.get(pid, [])
        return found

    def memory_bytes(self) -> int:
        """What its processes hold; a page that n of them share counts one n-th for each (PSS)."""
        return sum(memory_bytes(pid) for pid in self.pids())

    def cpu_seconds(self) -> float:
        """What its processes have worked so far, in user and kernel mode."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def end(self) -> None:
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:  # those that outlived it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().split("\n") if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"


@contextmanager
def started(command: Sequence[str], folder: Path, environment: Mapping[str, str], port: int) -> Iterator[ServerProcess]:
    """command: run in `folder`; listens on loopback's `port`."""
    with TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise ServerFailedError(f"{command[0]} does not run: {error.strerror}") from error
        server = ServerProcess(process, f"http://127.0.0.1:{port}", log)
        try:
            yield server
        finally:
            server.end()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            yield int(folder.name), int(_stat(folder)[1])


def _stat(folder: Path) -> list[str]:
    """/proc/PID/stat from its third field on: the second, the program's name, may have anything in it."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and kernel mode; 0 where it is gone."""
    with suppress(OSError):
        user, kernel = _stat(Path(f"/proc/{pid}"))[11:13]
        return (int(user) + int(kernel)) / TICKS_PER_SECOND
    return 0.0


def memory_bytes(pid: int) -> int:
    """What a process holds (PSS); 0 where it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0
