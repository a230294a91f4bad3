"""A training in the middle, to bytes and back: what fit needs to go on as if it had never stopped."""

from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from model.callbacks import Patience
from model.checkpoint import CheckpointError, DamagedError, check, metadata_of
from model.devices import hardware
from model.files import sealed, unsealed
from model.network import NetworkParameters
from model.reports import EpochReport
from model.spec import TrainSpec, keeps_best
from model.step import Totals, TrainState, initial_state, weights

_KEY = "training"


class Journal(BaseModel):
    """Where a training is, apart from its arrays. Its random keys follow from the spec's seed and these numbers."""

    model_config = ConfigDict(extra="forbid")  # so that another version's does not pass for one that lacks something

    epoch: int = 1  # the one that is being trained
    step: int = 0  # how many steps of it are done
    chunk_steps: int  # an epoch goes on in the pieces that it began in: they decide how its sums round
    totals: Totals | None = None  # the epoch's, so far
    seconds: float = 0.0  # that the epoch has taken so far
    history: list[EpochReport] = []
    plateau_rate: float | None = None  # what reduce_lr_on_plateau has made of the rate; None before its first epoch
    stopping: Patience = Patience()
    plateau: Patience = Patience()
    hardware: list[str] = []  # that it has been on, each once

    @property
    def place(self) -> str:
        """Where the training is, for its user, who expects the same bits."""
        place = f"in epoch {self.epoch}"
        if set(self.hardware) <= {hardware()}:
            return place
        return f"{place}, on {hardware()} after {', '.join(self.hardware)}, so that it may round otherwise"


class SavedTraining(NamedTuple):
    """A journal with the arrays that belong to it; best: the best epoch's weights, where they may be restored."""

    journal: Journal
    state: TrainState
    best: NetworkParameters | None


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="forbid")

    spec: TrainSpec
    journal: Journal


def to_bytes(saved: SavedTraining, spec: TrainSpec) -> bytes:
    """A SHA-256 of 32 bytes, then a safetensors file of every array, with spec and journal in its metadata."""
    metadata = _Metadata(spec=spec, journal=saved.journal).model_dump_json()
    arrays = {name: np.asarray(array) for name, array in _named(jax.device_get((saved.state, saved.best))).items()}
    return sealed(safetensors.numpy.save(arrays, metadata={_KEY: metadata}))


def from_bytes(data: bytes, spec: TrainSpec) -> SavedTraining:
    """Raises CheckpointError for bytes that are damaged, that another spec's training left, or that lack an array."""
    if (file := unsealed(data)) is None:
        raise DamagedError("the checkpoint is damaged: its SHA-256 is another")
    try:
        metadata = _Metadata.model_validate_json(metadata_of(file)[_KEY])
    except (KeyError, ValidationError):
        raise CheckpointError("the checkpoint was written by another version") from None
    if metadata.spec != spec:
        raise CheckpointError("the checkpoint is of another spec")
    return _restore(metadata.journal, spec, safetensors.numpy.load(file))


def _restore(journal: Journal, spec: TrainSpec, arrays: dict[str, NDArray[Any]]) -> SavedTraining:
    state = jax.eval_shape(lambda key: initial_state(key, spec), jax.random.key(0))
    skeleton = (state, weights(state) if keeps_best(spec) and journal.history else None)
    check(arrays, _named(skeleton))
    _, structure = jax.tree.flatten(skeleton)
    return SavedTraining(journal, *jax.tree.unflatten(structure, [arrays[name] for name in _named(skeleton)]))


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
