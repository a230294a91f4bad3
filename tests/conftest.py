"""What every test shares: JAX made strict, and the real MNIST."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Else each of the hundreds of processes that tests start compiles the service's modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# More wait for each other, spinning: beside another test, an eigh takes ten times the processor time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Else the cache's path is a part of what compiled code is found by, and a copy of it would be of no use.
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"

import jax
import pytest

from app.checkpoints import Checkpoints
from app.database import Database
from app.settings import Settings
from model.compilation import configure_jax
from model.data import Dataset, Mnist, load_mnist
from tests.models import FirstModel
from tests.postgresql import Postgresql, binaries, running
from tests.processes import Service, serving

gc.disable()  # until the tests begin: what is imported for them stays, and is looked through again and again

# A shell that starts this in the background makes it ignore Ctrl-C, and what it starts; some tests send that.
signal.signal(signal.SIGINT, signal.default_int_handler)
pytest.register_assert_rewrite("tests.browser")  # whose fixtures are only for who imports it
CACHE_DIR = Settings().cache_dir
configure_jax(CACHE_DIR)
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    return CACHE_DIR


@pytest.fixture(scope="session")
def mnist(cache_dir: Path) -> Mnist:
    return load_mnist(cache_dir)


@pytest.fixture(scope="session")
def images(mnist: Mnist) -> Dataset:
    """So few that an epoch takes no time, and no multiple of a batch of 100."""
    return Dataset(mnist.train.images[:1050], mnist.train.labels[:1050])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One server for all tests; each has a database of its own."""
    if binaries() is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    with TemporaryDirectory(prefix="inkling-postgresql-") as folder, running(Path(folder)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'inkling.db'}"
    return str(request.getfixturevalue("postgresql").new_database())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def checkpoints(database: Database) -> Checkpoints:
    return Checkpoints(database)


@pytest.fixture(scope="session")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> FirstModel:
    """with_model(data_dir) makes a service on that folder ready at once."""
    folder = tmp_path_factory.getbasetemp()
    return FirstModel(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def service_dir(tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel) -> Path:
    return with_model(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def service(service_dir: Path) -> Iterator[Service]:
    """One service for all tests that leave it as they find it, with its first model ready."""
    with serving(service_dir) as service:
        service.ready()
        yield service


@pytest.fixture
def left_as_it_was_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails takes no other with it: what it has left in the queue is cancelled."""
    yield
    if "service" in request.fixturenames:
        request.getfixturevalue("service").cancel_runs()


# Minutes each: begun first, so that the processes of `make test` end at about the same time. They are one more than the
# machine's cores, since these files wait for much of their time.
SLOW_FILES = [
    *("test_app_takeover", "test_model_resume", "test_app_torture", "test_app_train", "test_app_restart"),
    *("test_model_memory", "test_browser_training", "test_browser_page", "test_model_devices", "test_browser_models"),
    *("test_browser_drawing", "test_app_backup", "test_app_worker", "test_app_cluster"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where skips are forbidden, as in CI, one fails the session."""
    if os.environ.get("TEST_SKIPS") == "forbidden" and terminalreporter.stats.get("skipped"):
        raise pytest.UsageError("tests were skipped where TEST_SKIPS=forbidden")
