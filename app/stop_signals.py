"""SIGTERM and SIGINT as something to wait for."""

import select
import signal
import socket

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """From its creation on, in the main thread.

    A handler that sets the `threading.Event` that the main thread waits for can hang: Python runs it in the main thread
    alone, which sleeps on where the kernel has given the signal to another thread, and which may hold the event's own
    lock. Here the signal itself writes to a socket, from whichever thread has it.
    """

    def __init__(self) -> None:
        self._heard, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)  # only signals with a handler wake

    def wait(self, seconds: float | None = None) -> bool:
        """Whether one has come, by then."""
        heard, _, _ = select.select([self._heard], [], [], seconds)
        return bool(heard)
