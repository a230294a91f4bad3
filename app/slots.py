"""A worker's place on its machine, with the devices that go with it: no two living workers have the same."""

import fcntl
import itertools
import secrets
import socket
from typing import NamedTuple, TextIO

from app.devices import Device, device, gpus, places
from app.settings import Settings


class NoPlaceError(RuntimeError):
    """Every GPU of the machine has its worker."""


class Slot(NamedTuple):
    """A worker's place on this machine; a worker that takes a dead one's place takes up its run."""

    number: int
    executor: str
    device: Device
    lock: TextIO  # held while it is open


def claim_slot(settings: Settings) -> Slot:
    """The first slot that no living worker holds. Raises NoPlaceError where each needs a GPU and all have one."""
    found = gpus()
    shared = (settings.devices_per_worker, settings.workers_per_device)
    count = places(found, *shared)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    for number in itertools.count() if count is None else range(count):
        lock = (settings.data_dir / f"worker-{number}.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Slot(number, _executor(lock, number), device(found, number, *shared), lock)
    raise NoPlaceError(f"the {len(found)} GPUs of this machine have their {count} workers: INKLING_WORKERS_PER_DEVICE")


def _executor(lock: TextIO, number: int) -> str:
    """The name of the slot among those of all machines, made when it is first claimed."""
    lock.seek(0)
    if not (name := lock.read().strip()):
        name = f"{socket.gethostname()}/{number}/{secrets.token_hex(4)}"
        lock.write(name)
        lock.flush()
    return name
