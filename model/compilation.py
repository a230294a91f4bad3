"""How JAX compiles: code that gives the same bits each time, kept on disk so that it is compiled once a machine."""

import os
from pathlib import Path

import jax

_SAME_BITS = "--xla_gpu_deterministic_ops"


def configure_jax(cache_dir: Path) -> None:
    """To be called before JAX's first operation, which reads the environment; what that says already stays.

    Of a GPU, XLA would take the kernels that it times as the fastest, some of which add up in any order, and three
    quarters of the memory, though another worker may share it. Every compilation is kept, however short: together they
    are what a start waits for.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _SAME_BITS not in flags:
        os.environ["XLA_FLAGS"] = f"{_SAME_BITS}=true {flags}".strip()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
