"""What every test shares: JAX made strict, and the real MNIST."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from model.data import Dataset, Mnist, load_mnist
from tests.processes import Service, serving

jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    return Path(os.environ.get("INKLING_CACHE_DIR", "~/.cache/inkling")).expanduser()


@pytest.fixture(scope="session")
def mnist(cache_dir: Path) -> Mnist:
    return load_mnist(cache_dir)


@pytest.fixture(scope="session")
def images(mnist: Mnist) -> Dataset:
    """So few that an epoch takes no time, and no multiple of a batch of 100."""
    return Dataset(mnist.train.images[:1050], mnist.train.labels[:1050])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that leave it as they find it, with its first model ready."""
    with serving(tmp_path_factory.mktemp("service")) as service:
        service.ready()
        yield service


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where skips are forbidden, as in CI, one fails the session."""
    if os.environ.get("INKLING_TEST_SKIPS") == "forbidden" and terminalreporter.stats.get("skipped"):
        raise pytest.UsageError("tests were skipped where INKLING_TEST_SKIPS=forbidden")
