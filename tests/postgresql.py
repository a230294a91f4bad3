"""A real PostgreSQL server for tests: its own data folder, on a spare loopback port, ended with the tests."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_SECONDS = 30.0


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None)


def spare_port() -> int:
    """Below those that the system gives out by itself: nobody is given it while the server is down."""
    while answers(port := secrets.choice(range(10_000, 32_000))):
        pass
    return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Postgresql:
    """A running server; `kill` and `start` are for tests of what happens without it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.port = spare_port()
        if self._user:
            shutil.chown(folder, self._user)
        self._call("initdb", "--auth=trust", "--username=inkling", "--encoding=UTF8", "--no-sync", "-D", "data")
        self.start()

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "fsync": "off",  # the machine does not fail in a test, only processes do
            "timezone": "Asia/Tokyo",  # a time that is not said to be UTC is wrong then
        }
        command = ["-D", "data", *(f"-c{name}={value}" for name, value in options.items())]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", *command], cwd=self._folder, user=self._user, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, its helpers included; the next start recovers."""
        self.process.kill()
        self.process.wait()
        wait_until_gone(self.port)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # to end at once, whoever is connected
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def new_database(self, options: str = "") -> str:
        """The URL of an empty one. options: as CREATE DATABASE has them."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://inkling@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _call(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments]
        result = subprocess.run(command, cwd=self._folder, user=self._user, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


def wait_until_gone(port: int) -> None:
    """Its children end by themselves a moment after it does; until then the data folder is theirs."""
    deadline = time.monotonic() + START_SECONDS
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def running(folder: Path) -> Iterator[Postgresql]:
    programs = binaries()
    assert programs is not None, "the caller has asked"
    folder.chmod(0o755)
    server = Postgresql(programs, folder)
    try:
        yield server
    finally:
        server.stop()
