"""What a child process owes the others: it ends when the one that started it is gone, however that one ended.

The parent holds the write end of the child's standard input; the operating system closes it when the parent dies,
`kill -9` included.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

# A child's exit statuses beside 0 and 1; 75 is EX_TEMPFAIL of sysexits.h.
PARENT_GONE = 75
SUPERSEDED = 76  # its attempt at the run is not the newest
STOPPED = 77  # it was told to, and has saved a last checkpoint
TRAINED = 78  # it has said how its run ended

FORKS = sys.platform == "linux"  # elsewhere what is loaded by then need not survive a fork: macOS' own libraries do not


def end_with_parent(*, with_group: bool = False) -> None:
    """with_group: ends its process group, too, of which it is not the first; of its own it always does."""
    threading.Thread(target=_await_end_of_input, args=(with_group,), name="lifeline", daemon=True).start()


def _await_end_of_input(with_group: bool) -> None:
    if FORKS:  # without reading: what comes is for the process that this one is a fork of
        end = select.poll()
        end.register(sys.stdin, 0)
        end.poll()
    else:
        while os.read(sys.stdin.fileno(), 1024):
            pass
    if with_group or os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with all that it has started, such as a download
    os._exit(PARENT_GONE)


def offer_to_the_memory_killer() -> None:
    """When the machine runs out of memory, this process is the one to lose: not its parent, the API or a database."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def take_stdout() -> TextIO:
    """The pipe to the parent. What a library prints goes to standard error instead."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return messages
