"""The machine's GPUs and which of them each worker has; found out without JAX, which would take hold of them."""

import os
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

CPU = "CPU"


class Gpu(NamedTuple):
    """What CUDA_VISIBLE_DEVICES calls it, and its maker."""

    uuid: str
    name: str


class Device(NamedTuple):
    """What a worker trains on, and what its trainers' environment needs for that."""

    name: str
    environment: dict[str, str]


def gpus(environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """NVIDIA's, in the driver's order; those that CUDA_VISIBLE_DEVICES names, where it is set."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return []
    found = _query()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    by_name = {str(index): gpu for index, gpu in enumerate(found)} | {gpu.uuid: gpu for gpu in found}
    return [by_name[name] for name in visible.split(",") if name in by_name]


def places(found: list[Gpu], per_worker: int) -> int | None:
    """How many workers the GPUs are enough for; None without GPUs, when workers share the processor."""
    return max(1, len(found) // per_worker) if found else None


def device(found: list[Gpu], slot: int, per_worker: int) -> Device:
    """The slot's share of the GPUs."""
    share = found[slot * per_worker : (slot + 1) * per_worker] or found[:per_worker]
    if not share:
        return Device(CPU, {})
    count = "" if len(share) == 1 else f"{len(share)} × "
    return Device(count + share[0].name, {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in share)})


def _query() -> list[Gpu]:
    command = ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [Gpu(*(part.strip() for part in line.split(",", 1))) for line in answer.splitlines() if "," in line]
