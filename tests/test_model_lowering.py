"""What a GPU would be given, on a machine that has none: it lowers for CUDA, and computes what a CPU's program does."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import pytest

from model import network as net
from model.data import Dataset
from model.devices import all_devices
from model.evaluate import logits_of
from model.inference import answer
from model.plan import plan_epoch
from model.presets import PRESETS, PresetName
from model.reports import FitResult
from model.spec import TrainSpec
from model.step import (
    DRAWN_AT_ONCE,
    ChunkInputs,
    EpochInputs,
    initial_state,
    jitted_chunk,
    jitted_epoch_inputs,
    step_config,
)
from model.train import fit
from tests.trainings import SMALL, small_spec

EXAMPLES = 54_000


@pytest.fixture(autouse=True)
def _a_gpus_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where code chooses by the backend; what was traced before or is traced so is forgotten."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    yield
    jax.clear_caches()


def array(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def for_cuda(traced: jax.stages.Traced) -> str:
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_training_lowers_for_cuda_without_what_is_slow_there(preset: PresetName) -> None:
    spec = PRESETS[preset].spec
    plan = plan_epoch(spec, EXAMPLES, backend="gpu")
    state = jax.eval_shape(partial(initial_state, spec=spec), jax.random.key(0))
    shuffle = jitted_epoch_inputs(EXAMPLES, spec.batch_size, all_devices())
    assert "scatter" not in for_cuda(shuffle.trace(array(2, dtype="uint32"), array(dtype="int32")))
    epoch = EpochInputs(array(plan.steps, spec.batch_size, dtype="int32"), array(2, dtype="uint32"))
    steps = plan.chunk_steps
    inputs = ChunkInputs(array(steps, dtype="int32"), array(steps), array(steps))
    images, labels = array(EXAMPLES, 28, 28, dtype="uint8"), array(EXAMPLES, dtype="uint8")
    chunk = jitted_chunk(step_config(spec), all_devices())
    program = for_cuda(chunk.trace(state, images, labels, epoch, inputs))
    assert "scatter" not in program
    # Over the steps, over the batches drawn at once, and over kinds of strokes, in those and in what is left of them.
    writes_variants = bool(spec.augmentation and spec.augmentation.variants)
    has_rest = steps % (DRAWN_AT_ONCE // spec.batch_size) > 0
    assert program.count("stablehlo.while") == 2 + writes_variants * (1 + has_rest)
    assert "stablehlo.convolution" not in program


def test_a_training_for_a_gpu_computes_what_one_for_a_cpu_does(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = [{"type": "dropout", "rate": 0.2}, *SMALL]
    spec = small_spec(network=network, augmentation={"shift": 2.0, "noise": 0.1}, batch_size=50, epochs=1)
    gpus = trained(spec, images)
    monkeypatch.undo()
    jax.clear_caches()
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), gpus, trained(spec, images))


def trained(spec: TrainSpec, images: Dataset) -> net.NetworkParameters:
    jitted_chunk.cache_clear()  # which is by the configuration, whatever the backend
    *_, result = fit(spec, images)
    assert isinstance(result, FitResult)
    return result.parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_evaluation_and_inference_lower_for_cuda(preset: PresetName) -> None:
    spec = PRESETS[preset].spec
    parameters = jax.eval_shape(partial(net.init, network=spec.network), jax.random.key(0))
    held_out = array(5_999, 28, 28, dtype="uint8")
    assert for_cuda(logits_of.trace(parameters, held_out, network=spec.network))
    images = array(4, 28, 28, dtype="uint8")
    assert for_cuda(jax.jit(partial(answer, spec=spec)).trace(parameters, None, images))
