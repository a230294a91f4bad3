"""Keeps a set of child processes running: one that ends is started again, and all end with this one."""

import logging
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.stop_signals import StopSignals

STOP_SECONDS = 9.5  # a worker's last checkpoint has 7 of them
CHECK_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 30.0  # a child that lived as long is started again at once

_log = logging.getLogger(__name__)


class Program(NamedTuple):
    """What to run; descriptors: open files that it inherits."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int] = ()


def supervise(programs: Sequence[Program]) -> None:
    """Runs the programs until SIGTERM or SIGINT, then ends them all before it returns."""
    stop = StopSignals()
    children = [_Child(program) for program in programs]
    while not stop.wait(CHECK_SECONDS):
        for child in children:
            child.keep_running()
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.wait_until(deadline)


class _Child:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.pause_seconds = 0.0
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self.process = self._start()

    def keep_running(self) -> None:
        status, now = self.process.poll(), time.monotonic()
        if status is None:
            return
        if self.ended_at is None:
            self.ended_at = now
            _log.warning("%s ended with status %d; it is started again", self.program.name, status)
            if now - self.started_at > STEADY_SECONDS:
                self.pause_seconds = 0.0
        if now - self.ended_at >= self.pause_seconds:
            self.pause_seconds = min(2 * self.pause_seconds + 0.5, LONGEST_PAUSE_SECONDS)
            try:
                self.process = self._start()
                self.started_at, self.ended_at = now, None
            except OSError as error:  # the machine has no memory, say; the others go on
                self.ended_at = now
                _log.warning("%s cannot be started: %s", self.program.name, error)

    def terminate(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def wait_until(self, deadline: float) -> None:
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.warning("%s did not end in time; it is killed", self.program.name)
            self.process.kill()
            self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own: a terminal's Ctrl-C reaches this process alone, which ends the others in order.

        The pipe to its standard input is its lifeline (see app.lifeline).
        """
        return subprocess.Popen(
            self.program.command,
            stdin=subprocess.PIPE,
            env=dict(self.program.environment),
            pass_fds=self.program.descriptors,
            start_new_session=True,
        )
