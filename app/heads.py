"""How large a request's head may be, and how long it may take to arrive: uvicorn bounds neither.

And what becomes of one that asks for another protocol: uvicorn loses its body.
"""

import asyncio
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_SECONDS = 30.0


class BoundedHeads(HttpToolsProtocol):
    """Closes a connection that says nothing, or not all of a head. How long it may rest between two is uvicorn's."""

    _head: Any = None  # the scope of the head that is awaited
    _head_bytes = 0  # bytes of it so far, without those that came in one piece with the request before
    _head_timer: asyncio.TimerHandle | None = None
    _received = b""  # what the parser is reading

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        self._parse(data)
        # A request has its cycle as soon as its head is whole.
        if self._head_timer or self.cycle.scope is not self.scope:
            self._follow_head(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        return any(name == b"upgrade" for name, _ in self.headers)

    def handle_websocket_upgrade(self) -> None:
        """Reads the request again without its wish, which a server may ignore (RFC 9110, 7.8).

        Java's HttpClient and `curl --http2` wish for HTTP/2; the parser takes the body for that already.
        """
        upgrade = sys.exception()
        assert upgrade is not None, "uvicorn calls this as it handles the parser's"
        wanted = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        line = f"{self.scope['method']} {self.url.decode()} HTTP/{self.scope['http_version']}".encode()
        self.parser = type(self.parser)(self)  # the other one waits for that protocol, or for the connection's end
        self._parse(b"\r\n".join((line, *wanted, b"", self._received[upgrade.args[0] :])))

    def _parse(self, data: bytes) -> None:
        self._received = data
        super().data_received(data)
        self._received = b""  # an idle connection holds none

    def _follow_head(self, received: int) -> None:
        if self.scope is self._head:
            self._head_bytes += received
        else:  # what was awaited has come
            self._forget_head()
            self._head = self.scope
        if self.cycle and self.cycle.scope is self.scope:
            self._forget_head()
        elif self._head_bytes > HEAD_BYTES:
            self.transport.close()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
        self._head_timer, self._head_bytes = None, 0
