"""Each worker has its own of the GPUs that the driver lists and CUDA_VISIBLE_DEVICES leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.devices import Gpu, device, gpus, places

H100 = [Gpu(f"GPU-{letter}", "NVIDIA H100") for letter in "abcd"]

# What nvidia-smi -L says of a whole GPU, one that is divided in two, and another whole one.
LISTING = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-8f6e9a1c-0000-4106-c12f-20bd9faed9f6)
"""
WHOLE, ONE, THREE, LAST = (
    Gpu("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "NVIDIA H100 80GB HBM3"),
    Gpu("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
    Gpu("MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"),
    Gpu("GPU-8f6e9a1c-0000-4106-c12f-20bd9faed9f6", "NVIDIA H100 80GB HBM3"),
)


def test_each_worker_has_its_own_gpus() -> None:
    assert (places(H100, 1), places(H100, 2), places(H100, 8), places([], 1)) == (4, 2, 1, None)
    second = device(H100, slot=1, per_worker=1)
    assert (second.name, second.environment) == ("NVIDIA H100", {"CUDA_VISIBLE_DEVICES": "GPU-b"})
    pair = device(H100, slot=1, per_worker=2)
    assert (pair.name, pair.environment) == ("2 × NVIDIA H100", {"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-d"})
    assert device([], slot=3, per_worker=1) == ("CPU", {})


def test_workers_that_share_gpus_have_equal_parts_of_their_memory() -> None:
    two = H100[:2]
    assert (places(two, 1, 3), places(two, 2, 3), places([], 1, 3)) == (6, 3, None)
    shares = [device(two, slot, 1, 3).environment for slot in range(6)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["GPU-a", "GPU-b"] * 3
    assert {share["XLA_CLIENT_MEM_FRACTION"] for share in shares} == {"0.2500"}
    assert device(two, 2, 2, 3).environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_a_machine_without_nvidias_driver_has_no_gpus() -> None:
    assert gpus({"PATH": ""}) == []


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Gpu]]:
    """listed(CUDA_VISIBLE_DEVICES=…): the GPUs of a machine whose driver says what LISTING has, and whose JAX can."""
    monkeypatch.setattr("app.devices.CUDA_PLUGINS", ("json.decoder",))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = -L ] && printf '%s' '{LISTING}'\n")
    program.chmod(0o755)
    return lambda **environment: gpus({"PATH": str(tmp_path), **environment})


def test_an_instance_takes_the_place_of_the_gpu_that_it_is_part_of(listed: Callable[..., list[Gpu]]) -> None:
    assert listed() == [WHOLE, ONE, THREE, LAST]


def test_a_machine_whose_jax_is_told_to_use_the_cpu_has_no_gpus(listed: Callable[..., list[Gpu]]) -> None:
    assert listed(JAX_PLATFORMS="cpu") == []


def test_a_machine_whose_jax_has_no_cuda_has_no_gpus_and_says_so(
    listed: Callable[..., list[Gpu]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.devices.CUDA_PLUGINS", ("json.none", "none.at_all"))
    assert listed() == []
    assert "make serve DEVICE=cuda12" in caplog.text


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("2,0", [LAST, WHOLE]),
        ("1", [ONE]),  # of a divided GPU that is named as a whole, CUDA uses the first instance
        ("GPU-8932f937", [WHOLE]),
        ("GPU-8f, GPU-89", [LAST, WHOLE]),
        ("GPU-8", []),  # says not which
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", [ONE]),
        ("MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0,0", [THREE, WHOLE]),
        ("0,-1,2", [WHOLE]),
        ("0,GPU-none,2", [WHOLE]),
        ("3", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_devices_that_cuda_is_shown_are_those_that_workers_have(
    listed: Callable[..., list[Gpu]], visible: str, expected: list[Gpu]
) -> None:
    assert listed(CUDA_VISIBLE_DEVICES=visible) == expected
