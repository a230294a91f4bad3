"""Fuzzes every operation of the OpenAPI document with Schemathesis: no 5xx, no answer that is not documented.

    python -m tests.fuzz --minutes 10

starts a service with a model and without a worker, so that nothing is trained, and prints what Schemathesis found with
the requests that show it.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.processes import ROOT, serving

CONFIG = ROOT / "tests" / "schemathesis.toml"
SETTINGS = {"INKLING_MAX_QUEUED_RUNS": "20", "INKLING_MAX_QUEUED_RUNS_PER_USER": "10"}  # so that both are reached
REQUEST_SECONDS = 10


def fuzz(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs Schemathesis on the service at the url; folder: for what it keeps while it runs."""
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIG), "run"]
    command += [f"{url}/openapi.json", "--continue-on-failure", "--request-timeout", str(REQUEST_SECONDS), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to send requests")
    parser.add_argument("--seed", type=int, default=0, help="of what is sent")
    arguments = parser.parse_args()
    options = ("--max-time", f"{60 * arguments.minutes:.0f}", "--seed", str(arguments.seed))
    with TemporaryDirectory(prefix="inkling-fuzz-") as name:
        folder = Path(name)
        with serving(folder / "data") as service:
            service.ready()  # it has trained its first model by itself
        with serving(folder / "data", "api", **SETTINGS) as service:
            service.ready()
            result = fuzz(service.url, folder, *options)
    print(result.stdout, result.stderr)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
