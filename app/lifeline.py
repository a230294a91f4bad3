"""Ends a process when the one that started it is gone, however that one ended: nobody is left behind.

The parent holds the write end of the child's standard input and never writes to it again; the operating system closes
it when the parent dies, `kill -9` included.
"""

import os
import signal
import sys
import threading

PARENT_GONE = 75  # EX_TEMPFAIL of sysexits.h


def end_with_parent() -> None:
    threading.Thread(target=_await_end_of_input, name="lifeline", daemon=True).start()


def _await_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with all that it has started, such as a download
    os._exit(PARENT_GONE)
