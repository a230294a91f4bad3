"""How long a request's body may take to arrive: whoever sends too slowly makes room for others."""

import asyncio
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyDeadline:
    """Reading a body that has not come within its time raises HTTPException 408, which ends the connection."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """seconds: from the end of the request's head to the end of its body."""
        self.app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds
        arrived = scope["type"] != "http"

        async def receive_in_time() -> Message:
            nonlocal arrived
            if arrived:  # a stream waits here for its listener to leave
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            arrived = not message.get("more_body", False)
            return message

        await self.app(scope, receive_in_time, send)

    def _too_slow(self) -> HTTPException:
        detail = f"the body has not arrived within {self._seconds:g} s; send it faster, or a smaller one"
        return HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"})
