"""Whether a training fits into the device's memory, found out before its first step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from model.plan import checkpoint_copies_bytes, scoring_bytes
from model.spec import TrainSpec


class NotEnoughMemoryError(ValueError):
    """A training needs more memory than there is; the message has the numbers, and what to try."""


def check_fits(compiled: jax.stages.Compiled, spec: TrainSpec) -> None:
    """Raises NotEnoughMemoryError if the step's own buffers, which XLA has laid out by now, are more than is free.

    So it does for scoring, as far as it can be told, and on a CPU for checkpoints, which are made in the same memory.
    """
    analysis, free = compiled.memory_analysis(), free_bytes()
    if analysis is None or free is None:
        return
    step_bytes = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed = max(step_bytes, scoring_bytes(spec))
    if jax.default_backend() == "cpu":
        needed = max(needed, checkpoint_copies_bytes(spec))
    if needed > free:
        raise NotEnoughMemoryError(
            f"this training needs {format_bytes(needed)} more memory, but {format_bytes(free)} are free; "
            f"try a batch_size below {spec.batch_size:,}, or smaller layers"
        )


@contextmanager
def advised_on_memory(spec: TrainSpec) -> Iterator[None]:
    """Turns a device's error of running out of memory, in the middle of the training, into a NotEnoughMemoryError."""
    try:
        yield
    except BaseException as error:
        if not _ran_out(error):
            raise
        free = free_bytes()
        reason = str(error).partition("\n")[0] or "MemoryError"  # XLA's goes on for pages
        left = "" if free is None else f", and {format_bytes(free)} are free"
        raise NotEnoughMemoryError(
            f"the device ran out of memory in the middle of the training: {reason}{left}; "
            f"try a batch_size below {spec.batch_size:,}, or smaller layers"
        ) from error


def _ran_out(error: BaseException) -> bool:
    """Python, XLA, or safetensors, whose Rust has nothing to say but that it panics."""
    is_xlas = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError) or is_xlas or type(error).__name__ == "PanicException"


def free_bytes() -> int | None:
    """Bytes free on the first device; on a CPU, what the machine has left and what this process' container may take."""
    if statistics := jax.local_devices()[0].memory_stats():
        limit = statistics.get("bytes_limit")
        return None if limit is None else limit - statistics.get("bytes_in_use", 0)
    left = [number for number in (_machine_bytes(), _container_bytes()) if number is not None]
    return min(left, default=None)


def _machine_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) * 1024


def _container_bytes(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control group (version 2) allows beyond what it uses; None without a limit."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text()
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Cached files count as used, and are given up when memory is short.
        return None if limit == "max" else int(limit) - int(used) + int(counts["inactive_file"])
    except (OSError, ValueError, KeyError):
        return None


def format_bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
