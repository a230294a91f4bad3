"""Why a training process ended that has not said so itself, as far as its end and its memory tell."""

import contextlib
import os
import signal
from pathlib import Path

# The kernel's way when a machine has no memory left, and XLA's when it is given none.
_MEMORY_SIGNALS = (signal.SIGKILL, signal.SIGABRT)


class PeakMemory:
    """The most bytes that a process was seen to have resident; Linux tells."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")

    def look(self) -> None:
        with contextlib.suppress(OSError, IndexError):
            self.bytes = 1024 * int(self._status.read_text().partition("VmHWM:")[2].split()[0])


def describe_crash(status: int, peak_bytes: int) -> str:
    """status: the process' exit status, or minus the signal that ended it."""
    if status >= 0:
        return f"the training process ended with exit status {status}"
    said = f"the training process ended by signal {_name(-status)}"
    if -status not in _MEMORY_SIGNALS:
        return said
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{said}; the machine may be out of memory: the process held {peak_bytes / 1e9:.2f} GB, "
        f"the machine has {machine_bytes / 1e9:.1f} GB"
    )


def _name(number: int) -> str:
    """Real-time signals have none."""
    return signal.Signals(number).name if number in {*signal.Signals} else str(number)
