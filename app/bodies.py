"""What requests' bodies may take: time to arrive, so that who sends too slowly makes room, and memory, all together."""

import asyncio
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HELD_BYTES = 512_000_000  # of requests that are not answered yet
SMALL_BYTES = 65_536  # so much of a body is taken whatever others hold


class BodyLimits:
    """Reading a body raises HTTPException: 408, which ends the connection, once its time is over, and 503 for more of
    it than all requests together may hold.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """seconds: from the end of the request's head to the end of its body."""
        self.app, self._seconds = app, seconds
        self._held = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds
        arrived = scope["type"] != "http"
        held = 0

        async def receive_within_limits() -> Message:
            nonlocal arrived, held
            if arrived:  # a stream waits here for its listener to leave
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            arrived = not message.get("more_body", False)
            size = len(message.get("body", b""))
            held += size
            self._held += size
            if held > SMALL_BYTES and self._held > HELD_BYTES:
                raise self._too_much()
            return message

        try:
            await self.app(scope, receive_within_limits, send)
        finally:
            self._held -= held

    def _too_slow(self) -> HTTPException:
        detail = f"the body has not arrived within {self._seconds:g} s; send it faster, or a smaller one"
        return HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"})

    def _too_much(self) -> HTTPException:
        detail = (
            f"bodies of {HELD_BYTES:,} bytes wait to be answered, as many as this process holds; try again in a moment"
        )
        return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"})
