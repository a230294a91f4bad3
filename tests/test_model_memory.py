"""A training that cannot fit is refused before its first step, with the numbers; estimates are near XLA's own."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model import memory
from model import network as net
from model.data import Dataset, Mnist
from model.evaluate import BATCH_SIZE, logits_of, scoring_batch_size
from model.finish import finished, salvaged
from model.losses import DivergedError
from model.memory import NotEnoughMemoryError, check_fits, free_bytes
from model.plan import checkpoint_copies_bytes, estimate_memory_bytes, scoring_bytes
from model.presets import PRESETS
from model.resume import to_bytes
from model.spec import TrainSpec
from model.train import fit
from model.training import Training
from tests.processes import ROOT
from tests.trainings import FLATTEN, small_spec


@pytest.fixture(scope="module", autouse=True)
def _machine_code_of_any_kind() -> Iterator[None]:
    """XLA lays out the same memory whether or not it then optimizes the machine code, which takes half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def noise(count: int) -> Dataset:
    random = np.random.default_rng(0)
    return Dataset(random.integers(0, 256, (count, 28, 28), np.uint8), random.integers(0, 10, count, np.uint8))


def test_free_memory_is_a_part_of_the_machines() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    free = free_bytes()
    assert free is not None
    assert 0 < free < total


@pytest.mark.parametrize(("limit", "used", "left"), [("max", "5", None), ("100", "30", 77)])
def test_a_containers_limit_counts(tmp_path: Path, limit: str, used: str, left: int | None) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 20\ninactive_file 7\n")
    assert memory._container_bytes(tmp_path) == left
    assert memory._container_bytes(tmp_path / "none") is None


def test_what_no_machine_has_is_refused_with_the_numbers() -> None:
    huge = jax.jit(lambda x: jnp.zeros((1 << 21, 1 << 21)) + x).lower(1.0).compile()
    with pytest.raises(NotEnoughMemoryError, match=r"needs 17\d{3}\.\d GB more memory, but \d+(\.\d)? [MG]B are free"):
        check_fits(huge, TrainSpec())
    check_fits(jax.jit(lambda x: x + 1).lower(1.0).compile(), TrainSpec())


def test_a_training_that_is_too_large_does_not_take_its_first_step() -> None:
    wide: list[dict[str, Any]] = [{"type": "conv2d", "filters": 1024, "padding": "same"}]
    for _ in range(20):  # each keeps its 32 GB for the way back
        wide.append({"type": "activation", "activation": "tanh"})
    network = [*wide, {"type": "global_average_pooling2d"}, {"type": "dense", "units": 10, "activation": "softmax"}]
    spec = TrainSpec.model_validate({"network": network, "batch_size": 10_000})
    with pytest.raises(NotEnoughMemoryError, match=r"try a batch_size below 10,000, or smaller layers"):
        next(fit(spec, noise(10_000)))


class PanicException(BaseException):
    """As Rust's is for Python: no Exception."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes."), r"allocating 7 bytes\."),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: for 7 bytes\n1. ...\n2. ..."), r"training: RES.* for 7 bytes"),
        (PanicException("PyObject pointer is null"), "PyObject pointer is null"),
    ],
)
def test_a_device_that_runs_out_of_memory_in_the_middle_is_told_of_with_advice(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def exhausted(*given: Any) -> None:
        raise error

    monkeypatch.setattr("model.training.Training.end_epoch", exhausted)
    with pytest.raises(NotEnoughMemoryError, match=f"{said}, and .* free; try a batch_size below 100"):
        list(fit(small_spec(), noise(100)))


def test_memory_that_runs_out_after_the_training_is_told_of_and_leaves_a_diverged_training_its_reason(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*given: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("model.finish.fit_confidence", exhausted)
    parameters = net.init(jax.random.key(0), small_spec().network)
    with pytest.raises(NotEnoughMemoryError, match="try a batch_size below 100"):
        finished(parameters, small_spec(), mnist)
    assert salvaged(DivergedError("the loss became nan", parameters), small_spec(), mnist) is None


def test_a_device_without_a_limit_has_no_free_memory_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for statistics, free in (({"bytes_in_use": 5}, None), ({"bytes_in_use": 5, "bytes_limit": 9}, 4)):
        device = SimpleNamespace(memory_stats=partial(dict, statistics))
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert free_bytes() == free


@pytest.mark.parametrize("preset", PRESETS)
def test_the_estimate_is_within_a_small_factor_of_what_step_scoring_or_checkpoint_take(preset: str) -> None:
    spec = PRESETS[preset].spec.model_copy(update={"validation_split": 0.0, "early_stopping": None})
    training = Training(spec, noise(2 * spec.batch_size))
    inputs = (training.epoch_inputs(), training.chunk_inputs(range(2)))
    arguments = (training.state, training.images, training.labels, *inputs)
    analysis = training.compiled(arguments, 2).memory_analysis()
    checkpoint = len(to_bytes(training.saved(), spec))
    most = max(analysis.temp_size_in_bytes, scoring_temporaries(spec), 2 * checkpoint)
    actual = analysis.argument_size_in_bytes + most
    assert 0.5 < estimate_memory_bytes(spec, 2 * spec.batch_size) / actual < 2.0


def scoring_temporaries(spec: TrainSpec) -> int:
    """Bytes that XLA lays out."""
    parameters = jax.eval_shape(partial(net.init, network=spec.network), jax.random.key(0))
    images = jax.ShapeDtypeStruct((1_000, 28, 28), np.uint8)
    analysis = logits_of.lower(parameters, images, network=spec.network).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)


@pytest.mark.parametrize(
    ("filters", "side", "strides"), [(1, 3, 1), (64, 3, 1), (512, 3, 1), (6, 5, 1), (4, 15, 1), (45, 15, 1), (16, 7, 2)]
)
def test_scoring_takes_what_is_told_before_the_start_however_large_the_layers(
    filters: int, side: int, strides: int
) -> None:
    form = {"kernel_size": side, "strides": strides, "padding": "same"}
    wide = {"type": "conv2d", "filters": filters, **form, "activation": "relu"}
    network = [wide, wide, wide, {"type": "global_average_pooling2d"}, {"type": "dense", "units": 10}]
    spec = TrainSpec.model_validate({"network": network, "batch_size": 1})
    assert 0.3 < scoring_temporaries(spec) / scoring_bytes(spec) < 1.2


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_scored_in_the_largest_batches(preset: str) -> None:
    assert scoring_batch_size(PRESETS[preset].spec.network) == BATCH_SIZE


PEAK = """
import sys
from pathlib import Path
import jax
import numpy as np
from model.data import Dataset
from model.spec import TrainSpec
from model.train import fit
jax.config.update("jax_disable_most_optimizations", True)
def peak():  # in KiB; getrusage's begins at what the parent held
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
examples = Dataset(np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8))
spec = TrainSpec.model_validate_json(sys.argv[1])
for network in spec.network[::3], spec.network:  # a small one before, to see what JAX itself takes
    before = peak()
    for _ in fit(spec.model_copy(update={"network": network}), examples, checkpoint_seconds=0.0):
        pass
print(1024 * (peak() - before))
"""


def test_the_estimate_is_within_a_small_factor_of_what_a_process_takes_that_makes_checkpoints() -> None:
    large = {"type": "dense", "units": 3_500}
    network = [FLATTEN, large, large, {"type": "dense", "units": 10, "activation": "softmax"}]
    spec = TrainSpec.model_validate({"network": network, "batch_size": 2, "epochs": 2})
    command = [sys.executable, "-c", PEAK, spec.model_dump_json()]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert said.returncode == 0, said.stderr
    assert 0.5 < estimate_memory_bytes(spec, 4) / int(said.stdout) < 2.0


def test_a_checkpoint_that_would_not_fit_is_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, step = TrainSpec(), jax.jit(lambda x: x + 1).lower(1.0).compile()
    check_fits(step, spec)
    monkeypatch.setattr("model.memory.free_bytes", lambda: checkpoint_copies_bytes(spec) - 1)
    with pytest.raises(NotEnoughMemoryError, match="needs 16 MB more memory, but 16 MB are free"):
        check_fits(step, spec)
