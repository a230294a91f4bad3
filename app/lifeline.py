"""Ends a process when the one that started it is gone, however that one ended: nobody is left behind.

The parent holds the write end of the child's standard input and never writes to it again; the operating system closes
it when the parent dies, `kill -9` included.
"""

import os
import signal
import sys
import threading

# A child's exit statuses beside 0 and 1; 75 is EX_TEMPFAIL of sysexits.h.
PARENT_GONE = 75
SUPERSEDED = 76  # its attempt at the run is not the newest
STOPPED = 77  # it was told to, and has saved a last checkpoint


def end_with_parent() -> None:
    threading.Thread(target=_await_end_of_input, name="lifeline", daemon=True).start()


def _await_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with all that it has started, such as a download
    os._exit(PARENT_GONE)
