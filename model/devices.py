"""The devices that a training uses, and how its arrays lie on them: each batch is divided, all else is on every one."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "batch"


def all_devices() -> Mesh:
    """Every device of this process, and of the others once `jax.distributed` has connected them."""
    return Mesh(np.array(jax.devices()), (_AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Of [L, B]: each device has its part of every batch."""
    return NamedSharding(mesh, PartitionSpec(None, _AXIS))
