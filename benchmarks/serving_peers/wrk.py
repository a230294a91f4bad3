"""wrk, the load generator: a list of requests, sent in turn over so many connections for so long.

It sends the next request of a connection as soon as the last one is answered (a closed loop), from one thread.
"""

import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving_peers.process import ServerFailedError

SCRIPT = Path(__file__).parent / "requests.lua"
TIMEOUT_SECONDS = 30


class Request(NamedTuple):
    """One request of a list; its body is read from a file."""

    path: str
    media_type: str = ""
    body: Path | None = None
    method: str = "POST"

    def line(self) -> str:
        return "\t".join((self.method, self.path, self.media_type, str(self.body or "")))


class Load(NamedTuple):
    """What came of it: refused are the answers of status 4xx or 5xx, broken those that did not come."""

    requests: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    refused: int
    broken: int
    server_errors: int  # of the refused, those of status 5xx, where they are counted

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def errors(self) -> int:
        return self.refused + self.broken


def is_here() -> bool:
    return shutil.which("wrk") is not None


def save_list(requests: Sequence[Request], path: Path) -> Path:
    path.write_text("".join(f"{request.line()}\n" for request in requests))
    return path


def load(url: str, requests: Path, connections: int, seconds: float, *, count_server_errors: bool = False) -> Load:
    """requests: a file that `save_list` has written; counting takes the generator's time.

    Raises ServerFailedError where nobody listens.
    """
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{math.ceil(seconds)}s"]
    command += ["--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(SCRIPT), url, "--", str(requests)]
    command += ["count"] if count_server_errors else []
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ServerFailedError(f"wrk: {(result.stdout + result.stderr).strip()}")
    return Load(**json.loads(result.stdout.strip().rpartition("\n")[2]))
