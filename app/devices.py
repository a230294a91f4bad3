"""The machine's GPUs and which of them each worker has; found out without JAX, which would take hold of them."""

import logging
import os
import re
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

CPU = "CPU"
CUDA_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# JAX takes at most three quarters of a GPU's memory, unless one of these says otherwise; it refuses both at once.
MEMORY_FRACTION, OLDER_NAME = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"
WHOLE_FRACTION = 0.75

# Lines of nvidia-smi -L. A GPU that is divided into instances (MIG) has theirs below its own.
_GPU = re.compile(r"GPU \d+: (?P<name>.+) \(UUID: (?P<uuid>\S+)\)")
_INSTANCE = re.compile(r"\s+(?P<name>MIG \S+)\s+Device\s+\d+: \(UUID: (?P<uuid>\S+)\)")

_log = logging.getLogger(__name__)


class Gpu(NamedTuple):
    """A GPU, or an instance that it is divided into: what CUDA_VISIBLE_DEVICES calls it, and its maker."""

    uuid: str
    name: str


class Device(NamedTuple):
    """What a worker trains on, and what its trainers' environment needs for that."""

    name: str
    environment: dict[str, str]


class _Card(NamedTuple):
    """A GPU as it is built in, and its instances."""

    gpu: Gpu
    instances: list[Gpu]

    @property
    def usable(self) -> list[Gpu]:
        """CUDA computes on the instances alone where there are some."""
        return self.instances or [self.gpu]


def gpus(environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """NVIDIA's, in the driver's order; those that CUDA_VISIBLE_DEVICES names, where it is set. None without CUDA."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return []
    cards = _query(environment)
    if cards and not any(map(_is_installed, CUDA_PLUGINS)):
        _log.warning("this machine has a GPU, but JAX here is for the CPU: make serve DEVICE=cuda12")
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [gpu for card in cards for gpu in card.usable]
    found = []
    for name in visible.split(","):
        if (gpu := _named(name.strip(), cards)) is None:
            break  # CUDA too stops at a name that it does not know
        found.append(gpu)
    return found


def places(found: list[Gpu], per_worker: int, sharing: int = 1) -> int | None:
    """How many workers the GPUs are enough for, so many to each share; None without: they share the processor."""
    return _shares(found, per_worker) * sharing if found else None


def device(found: list[Gpu], slot: int, per_worker: int, sharing: int = 1) -> Device:
    """The slot's share of the GPUs: each has its first worker before one has a second."""
    if not found:
        return Device(CPU, {})
    first = slot % _shares(found, per_worker) * per_worker
    share = found[first : first + per_worker]
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in share)}
    if sharing > 1 and not {MEMORY_FRACTION, OLDER_NAME} & os.environ.keys():
        environment[MEMORY_FRACTION] = f"{WHOLE_FRACTION / sharing:.4f}"
    count = "" if len(share) == 1 else f"{len(share)} × "
    return Device(count + share[0].name, environment)


def _shares(found: list[Gpu], per_worker: int) -> int:
    return max(1, len(found) // per_worker)


def _named(name: str, cards: list[_Card]) -> Gpu | None:
    """By a GPU's number, or by as much of the UUID of a GPU or an instance as tells it from all others."""
    if name.isdecimal():
        return cards[int(name)].usable[0] if int(name) < len(cards) else None
    known = {card.gpu.uuid: card.usable[0] for card in cards}
    known |= {instance.uuid: instance for card in cards for instance in card.instances}
    found = [gpu for uuid, gpu in known.items() if uuid.startswith(name)]
    return found[0] if len(found) == 1 and name.startswith(("GPU-", "MIG-")) else None


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package is
        return False


def _query(environment: Mapping[str, str]) -> list[_Card]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], env=dict(environment), capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return _cards(answer)


def _cards(listing: str) -> list[_Card]:
    cards: list[_Card] = []
    for line in listing.splitlines():
        if found := _GPU.match(line):
            cards.append(_Card(Gpu(found["uuid"], found["name"]), []))
        elif cards and (found := _INSTANCE.match(line)):
            cards[-1].instances.append(Gpu(found["uuid"], f"{cards[-1].gpu.name} {found['name']}"))
    return cards
