"""MNIST as verified arrays: from the local cache, else from the first source that serves the right bytes."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.files import write_atomically
from model.sources import IDX_SHA256, SOURCES, Source

TRAIN_EXAMPLES = 60_000

_log = logging.getLogger(__name__)


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
    with _writing(folder):  # before it is fetched in vain
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    files = _fetch(folder, names, sources)
    with _writing(folder):
        for name, body in files.items():
            write_atomically(folder / name, body)
    return files


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataUnavailableError(f"MNIST's cache folder {folder} cannot be written: {error}") from error


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
