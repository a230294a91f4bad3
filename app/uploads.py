"""Models that come as a file: checked here, scored by a process of their own (app.scorer), then published."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from app.computing import computed
from app.errors import InvalidInputError, ScoringError, TooManyUploadsError
from app.model_schemas import ModelInfo
from app.registry import Registry
from app.scorer import Verdict
from model.checkpoint import CheckpointError, confidence_of, from_bytes
from model.data import DataUnavailableError, load_mnist
from model.scores import Evaluation
from model.spec import TrainSpec

MAX_UPLOAD_BYTES = 64 * 2**20  # the largest network's parameters have 64 MB, and their header
MAX_HEADER_BYTES = 1_000_000  # it is read as text and as objects; the largest network's has a few thousand
SCORING_SECONDS = 120.0
UPLOADS_AT_ONCE = 4  # each is held in memory
SCORER = (sys.executable, "-m", "app.scorer")


class Uploads:
    """The uploads that this process is busy with; they are scored one after the other."""

    def __init__(self, registry: Registry, cache_dir: Path) -> None:
        self._registry, self._cache_dir = registry, cache_dir
        self._count = 0
        self._scoring = asyncio.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the few places for an upload, to be taken before it is read. Raises TooManyUploadsError."""
        if self._count >= UPLOADS_AT_ONCE:
            raise TooManyUploadsError(self._count)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def add(self, data: bytes, name: str | None) -> tuple[ModelInfo, bool]:
        """The model, and whether it is a new one: the same bytes twice are one model.

        data: a safetensors file with its spec. Raises InvalidInputError for what is no model, and ScoringError.
        """
        if existing := await asyncio.to_thread(self._registry.same, data):
            return await asyncio.to_thread(self._registry.model, existing), False
        spec = await computed(check, data)
        async with self._scoring:
            evaluation = await score(data, self._cache_dir)
        model, new = await asyncio.to_thread(self._registry.add, data, spec, evaluation, name)
        return await asyncio.to_thread(self._registry.model, model), new


def check(data: bytes) -> TrainSpec:
    """The file's spec. Raises InvalidInputError that says which tensor or field is wrong."""
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > min(MAX_HEADER_BYTES, max(len(data) - 8, 0)):
        raise _refusal(
            f"not a safetensors file: its first 8 bytes announce a header of {header_bytes:,} bytes; "
            f"expected at most {MAX_HEADER_BYTES:,}, and no more than the file has"
        )
    try:
        spec, parameters = from_bytes(data)
        confidence_of(data)
    except CheckpointError as error:
        raise _refusal(str(error)) from None
    for index, layer in enumerate(parameters):
        for tensor, values in layer.items():
            if not np.isfinite(values).all():
                raise _refusal(f"layers.{index}.{tensor} has values that are not finite")
    return spec


def _refusal(reason: str) -> InvalidInputError:
    """Cut short: a name that is no tensor's or field's may be long."""
    return InvalidInputError(reason if len(reason) <= 300 else f"{reason[:300]}…", "body")


async def score(data: bytes, cache_dir: Path) -> Evaluation:
    """The report on MNIST's test set. Raises InvalidInputError for a network that cannot be scored, ScoringError."""
    try:
        await asyncio.to_thread(load_mnist, cache_dir)  # to fetch it takes none of the model's time
    except DataUnavailableError as error:
        raise ScoringError(f"the model cannot be scored: {error}") from None
    process = await asyncio.create_subprocess_exec(
        *SCORER,
        str(cache_dir),
        str(len(data)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SCORING_SECONDS):
            verdict = await _verdict(process, data)
    except TimeoutError:
        raise _refusal(f"it takes longer than {SCORING_SECONDS:.0f} s to score it; try smaller layers") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if verdict.refusal:
        raise _refusal(verdict.refusal)
    assert verdict.evaluation is not None, "a verdict has one of the two"
    return verdict.evaluation


async def _verdict(process: asyncio.subprocess.Process, data: bytes) -> Verdict:
    """Its input stays open for as long as it works: it is the lifeline."""
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    with suppress(ConnectionError):  # it has ended early; its status tells why
        process.stdin.write(data)
        await process.stdin.drain()
    said = await process.stdout.read()
    status = await process.wait()
    if status != 0:
        raise ScoringError(f"the process that scored the model ended early, with status {status}")
    return Verdict.model_validate_json(said)
