"""A peer's end of the pipe: trains slice after slice, one JSON line each, and rests until the driver says go.

The process stays alive between rounds, so that it compiles once and is measured warm.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.job import Data, Job, load_data


class Reporter:
    """Called by a peer after each slice with its mean loss; returns when the next one may start."""

    def __init__(self, packages: Sequence[str]) -> None:
        # Whatever a library prints must not get between the answers.
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.versions = {"Python": sys.version.split()[0]} | {package: version(package) for package in packages}
        self.idle_cpu_seconds = 0.0

    def __call__(self, loss: float) -> None:
        self._answer(
            loss=loss,
            idle_cpu_seconds=self.idle_cpu_seconds,
            peak_bytes=peak_bytes(),
            versions=self.versions,
        )
        resting_since = time.process_time()
        if not sys.stdin.readline():
            raise SystemExit
        self.idle_cpu_seconds = time.process_time() - resting_since

    def _answer(self, **fields: Any) -> None:
        print(json.dumps(fields), file=self.answers, flush=True)


Train = Callable[..., None]  # (job: Job, data: Data, report: Reporter, **options)


def serve(train: Train, packages: Sequence[str]) -> None:
    """Runs a peer: `python -m benchmarks.peers.NAME JOB FOLDER OPTIONS`, of which JOB and OPTIONS are JSON."""
    report = Reporter(packages)
    job, folder, options = Job(**json.loads(sys.argv[1])), Path(sys.argv[2]), json.loads(sys.argv[3])
    train(job, load_data(folder, job), report, **options)


def unit_interval(data: Data) -> Any:
    """[N, 28, 28] float32 in 0..1, as every peer's own tutorial prepares MNIST."""
    return data.images.astype("float32") / 255


def peak_bytes() -> int:
    """The most memory this process ever had resident.

    Linux' ru_maxrss is no less than what the parent had at the fork; VmHWM starts afresh with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return unit_bytes * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
