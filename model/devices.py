"""The devices that a training uses, and how its arrays lie on them: each batch is divided, all else is on every one."""

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "batch"


def all_devices() -> Mesh:
    """Every device of this process, and of the others once `jax.distributed` has connected them."""
    return Mesh(np.array(jax.devices()), (_AXIS,))


def hardware() -> str:
    """What decides, beside the spec, how a training's sums round: its devices, and the cores of a CPU."""
    devices = jax.devices()
    kind = f"{len(devices)} × {devices[0].device_kind}"
    if devices[0].platform != "cpu":
        return kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{kind} of {cores} cores"


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Of [L, B]: each device has its part of every batch."""
    return NamedSharding(mesh, PartitionSpec(None, _AXIS))
