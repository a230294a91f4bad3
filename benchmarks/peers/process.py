"""The driver's end of the pipe: a peer's process, started, asked for a slice, and ended."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from benchmarks.peers.job import EPOCH_IMAGES, NETWORKS, Job

ROOT = Path(__file__).parents[2]
END_SECONDS = 20.0
IDLE_SHARE, IDLE_CPU_SECONDS = 0.02, 0.05  # of a slice's seconds: more than both between rounds is work


@dataclass(frozen=True)
class Peer:
    """How to run a peer: its module in this package, its keyword options, and what its environment adds."""

    title: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = tuple(NETWORKS)
    largest_batch: int = EPOCH_IMAGES

    def can(self, job: Job) -> bool:
        return job.network_name in self.networks and job.batch_size <= self.largest_batch


class Slice(NamedTuple):
    """A peer's answer, and the seconds it took, from the word to the answer.

    idle_cpu_seconds is what it worked before that, when it should have rested.
    """

    seconds: float
    loss: float
    idle_cpu_seconds: float
    peak_bytes: int
    versions: dict[str, str]

    @property
    def worked_while_idle(self) -> bool:
        return self.idle_cpu_seconds > max(IDLE_SHARE * self.seconds, IDLE_CPU_SECONDS)


class PeerFailedError(RuntimeError):
    """The peer's process ended without an answer: the last line it wrote to stderr."""


class PeerProcess:
    """A running peer; every call blocks until its answer, so that one peer works at a time."""

    def __init__(self, peer: Peer, job: Job, python: Path, folder: Path, *, on_gpu: bool) -> None:
        self.log = TemporaryFile("w+", dir=folder)  # noqa: SIM115 - closed in end()
        self.started = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                [python, "-m", f"benchmarks.peers.{peer.module}", job.to_json(), folder, json.dumps(peer.options)],
                cwd=ROOT,
                env=os.environ
                | _environment(folder / f"{job.network_name}-{job.batch_size}", on_gpu)
                | peer.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
        except OSError as error:
            raise PeerFailedError(f"{python} does not run: {error.strerror}") from error

    def first_slice(self) -> Slice:
        """Its seconds count from the start of the process."""
        return self._answer(self.started)

    def next_slice(self) -> Slice:
        assert self.process.stdin
        asked = time.perf_counter()
        try:
            print("go", file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerFailedError(self._last_words()) from None
        return self._answer(asked)

    def _answer(self, since: float) -> Slice:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailedError(self._last_words())
        return Slice(time.perf_counter() - since, **json.loads(line))

    def _last_words(self) -> str:
        status = self.process.wait(END_SECONDS)
        self.log.seek(0)
        lines = self.log.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"exit status {status}")

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.close()  # the peer ends by itself
            self.process.wait(END_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def _environment(caches: Path, on_gpu: bool) -> dict[str, str]:
    """Compile caches that are empty when the job begins, and an accelerator for everybody or for nobody."""
    none = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    return ({} if on_gpu else none) | {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "INKLING_CACHE_DIR": str(caches / "inkling"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torchinductor"),
    }
