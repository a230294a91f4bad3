"""How JAX compiles: code that gives the same bits each time, kept on disk so that it is compiled once a machine."""

import os
import warnings
from pathlib import Path

import jax

_GPU_FLAGS = {
    # Else XLA takes the kernels that it times as the fastest, some of which add up in any order.
    "--xla_gpu_deterministic_ops": "true",
    # Then no product is Triton's, but what would have been fused into it is computed apart, for each product again.
    "--xla_gpu_enable_triton_gemm": "false",
    # Kernels of a step that do not wait for each other run side by side.
    "--xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
}


def configure_jax(cache_dir: Path) -> None:
    """To be called before JAX's first operation, which reads the environment; what that says already stays.

    JAX would take three quarters of a GPU's memory, though another worker may share it. Every compilation is kept,
    however short: together they are what a start waits for.
    """
    given = os.environ.get("XLA_FLAGS", "")
    ours = [f"{flag}={value}" for flag, value in _GPU_FLAGS.items() if flag not in given]
    os.environ["XLA_FLAGS"] = " ".join([*ours, given]).strip()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Where the folder cannot be used, as on a disk that is full or only to be read, it is compiled each time.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
