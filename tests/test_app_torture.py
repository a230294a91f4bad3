"""The short form of `make torture`: a few runs on each kind of database, under faults of most kinds."""

import re
import subprocess
import sys

import pytest

from tests.postgresql import binaries
from tests.processes import ROOT

SHORT = {"runs": 4, "workers": 2, "apis": 1, "specs": 1, "gap-seconds": 1.0, "fault-seconds": 10}


@pytest.mark.timeout(600)  # where the machine is busy; else less than a minute
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_accepted_run_survives_whatever_happens_to_the_cluster(database: str) -> None:
    if database == "postgresql" and binaries() is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    command = [sys.executable, "-m", "tests.torture", "--database", database]
    command += [f"--{option}={value}" for option, value in SHORT.items()]
    tortured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert tortured.returncode == 0, tortured.stdout + tortured.stderr
    verdict = "lost 0, doubled 0, differing 0, revived 0, torn 0, stale 0, surprising 0, processes left 0"
    assert verdict in tortured.stdout
    assert re.search(r"^faults +[1-9]", tortured.stdout, re.MULTILINE)
