"""What a GPU would be given: every preset's programs lower for CUDA, on a machine that has none."""

from collections.abc import Iterator
from functools import partial

import jax
import pytest

from model import network as net
from model.devices import all_devices
from model.evaluate import logits_of
from model.inference import answer
from model.plan import plan_epoch
from model.presets import PRESETS, PresetName
from model.spec_layers import Conv2D
from model.step import ChunkInputs, EpochInputs, initial_state, jitted_chunk, jitted_epoch_inputs, step_config

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
    writes_variants = bool(spec.augmentation and spec.augmentation.variants)
    assert program.count("stablehlo.while") == 1 + writes_variants  # over the steps, and over kinds of strokes
    has_windows = any(isinstance(layer, Conv2D) for layer in spec.network)
    assert ("stablehlo.convolution" in program) == has_windows  # cuDNN's, not the CPU's products


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_evaluation_and_inference_lower_for_cuda(preset: PresetName) -> None:
    spec = PRESETS[preset].spec
    parameters = jax.eval_shape(partial(net.init, network=spec.network), jax.random.key(0))
    held_out = array(5_999, 28, 28, dtype="uint8")
    assert for_cuda(logits_of.trace(parameters, held_out, network=spec.network))
    images = array(4, 28, 28, dtype="uint8")
    assert for_cuda(jax.jit(partial(answer, spec=spec)).trace(parameters, None, images))
