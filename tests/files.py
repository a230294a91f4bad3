"""Models that come as files."""

from typing import Any

import jax

from app.routes.models import FILE_TYPE
from model import network as net
from model.checkpoint import to_bytes
from model.spec import TrainSpec
from tests.processes import Service
from tests.trainings import SMALL

FILE = {"content-type": FILE_TYPE}


def file(seed: int = 0, **fields: Any) -> bytes:
    """An untrained network's."""
    spec = TrainSpec.model_validate({"network": SMALL, "name": f"untrained {seed}", **fields})
    return to_bytes(net.init(jax.random.key(seed), spec.network), spec)


def upload(service: Service, content: bytes, **query: str) -> Any:
    return service.http.post("/models", content=content, headers=FILE, params=query, timeout=120)


GOOD = file()
