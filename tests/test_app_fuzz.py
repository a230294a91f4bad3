"""Whatever is sent, no operation fails or answers with a status or a body that the OpenAPI document does not have.

A short run with a fixed seed; `python -m tests.fuzz --minutes 10` is the long one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import SETTINGS, fuzz
from tests.models import FirstModel
from tests.processes import Service, serving


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel) -> Iterator[Service]:
    """A service with a model and without a worker."""
    with serving(with_model(tmp_path_factory.mktemp("fuzz")), "api", **SETTINGS) as service:
        service.ready()
        yield service


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--phases", "examples,fuzzing,stateful", "--max-examples", "10"], id="at random"),
        # Each bound and each field that may be wrong, one after another; a spec has thousands.
        pytest.param(["--phases", "coverage", "--exclude-name", "POST /train"], id="in order"),
    ],
)
def test_no_request_is_answered_but_as_documented(fuzzed: Service, tmp_path: Path, options: list[str]) -> None:
    result = fuzz(fuzzed.url, tmp_path, "--seed", "0", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    sent, passed = re.search(r"(\d+) generated, (\d+) passed", result.stdout).groups()
    assert sent == passed and int(passed) > 100
