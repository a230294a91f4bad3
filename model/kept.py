"""Arrays that take long to compute and follow from little: kept on disk, so that each is computed once a machine."""

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from jax.extend.backend import get_backend
from numpy.typing import NDArray

from model.devices import hardware
from model.files import prune, sealed, unsealed, write_atomically

KEPT_BYTES = 100_000_000
_LIBRARIES_OPTIONS = ("JAX_", "XLA_", "OPENBLAS_", "OMP_", "NVIDIA_")  # environment variables: threads, precision, …

# Read at the start: what runs here stays what it was when its files are replaced by a newer version's.
_CODE = [hashlib.sha256(module.read_bytes()).hexdigest() for module in sorted(Path(__file__).parent.glob("*.py"))]

Arrays = dict[str, NDArray[Any]]


def kept(folder: Path | None, compute: Callable[[], Arrays], *inputs: NDArray[Any]) -> Arrays:
    """What `compute` gives for these inputs, bit for bit, from the folder if it is there; None keeps nothing.

    It may follow from nothing else but the code of this package and where that runs, which are part of the file's name.
    """
    if folder is None:
        return compute()
    path = folder / _name(inputs)
    with contextlib.suppress(OSError):
        if (file := unsealed(path.read_bytes())) is not None:
            return safetensors.numpy.load(file)
    arrays = compute()
    with contextlib.suppress(OSError):  # a full disk, say: it is computed again
        # Which writes an array's memory as it lies there, whatever its strides.
        file = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, sealed(file))
        prune(folder.iterdir(), KEPT_BYTES)
    return arrays


def _name(inputs: tuple[NDArray[Any], ...]) -> str:
    """A SHA-256 of all that the arrays follow from."""
    found = hashlib.sha256(repr((_CODE, _place())).encode())
    for array in inputs:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _place() -> list[str]:
    """What decides how sums round, beside the code and its inputs."""
    libraries = [version(name) for name in ("jax", "jaxlib", "numpy")]
    device = [hardware(), get_backend().platform_version, _processor()]
    options = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_LIBRARIES_OPTIONS))
    return [*libraries, *device, *options]


def _processor() -> str:
    """Its kind and what it can: a cache may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return "".join(line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features")))
