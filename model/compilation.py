"""Compiled code is kept on disk, so that a function of the same shapes is compiled once a machine."""

from pathlib import Path

import jax


def use_compilation_cache(cache_dir: Path) -> None:
    """Every compilation counts, however short: together they are what a start waits for."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
