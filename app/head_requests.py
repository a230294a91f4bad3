"""HEAD requests: whatever is got can be asked for its head alone (RFC 9110, 9.3.2)."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Answers HEAD as GET; the server leaves the body out. A stream ends with its head: nobody would hear the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        has_begun, is_complete = asyncio.Event(), False

        async def leave() -> Message:
            await has_begun.wait()
            return {"type": "http.disconnect"}

        async def send_head(message: Message) -> None:
            nonlocal is_complete
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)
            has_begun.set()

        await self._app({**scope, "method": "GET"}, leave, send_head)
        if not is_complete:
            await send({"type": "http.response.body"})
