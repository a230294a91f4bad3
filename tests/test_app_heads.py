"""A request's head arrives in time and is of a bounded size, or its connection is closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.heads import HEAD_BYTES, BoundedHeads
from tests.processes import SOON_SECONDS

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n123456"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n123456"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(echo, lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHeads(config, ServerState(), {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(SOON_SECONDS):
        yield reader, writer
    writer.close()
    server.close()


@pytest.mark.parametrize("said", [b"", b"POST / HT", REQUEST + REQUEST[:9]])
def test_a_connection_whose_head_does_not_come_whole_in_time_is_closed(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("app.heads.HEAD_SECONDS", 0.5)

    async def wait_for_the_end() -> None:
        async with connection() as (reader, writer):
            writer.write(said)
            assert await reader.read() == ANSWER * said.count(REQUEST)

    asyncio.run(wait_for_the_end())


def test_a_connection_may_rest_between_requests_and_their_bodies_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.heads.HEAD_SECONDS", 0.5)

    async def ask() -> None:
        async with connection() as (reader, writer):
            for _ in range(2):
                writer.write(REQUEST[:-3])
                await asyncio.sleep(1.0)
                writer.write(REQUEST[-3:])
                assert await reader.readexactly(len(ANSWER)) == ANSWER
                await asyncio.sleep(1.0)

    asyncio.run(ask())


def test_a_head_that_grows_too_large_ends_its_connection() -> None:
    async def send_it() -> None:
        async with connection() as (_, writer):
            writer.write(REQUEST + b"POST / HTTP/1.1\r\nX: ")
            with pytest.raises(ConnectionError):
                await flood(writer)

    asyncio.run(send_it())


async def flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * HEAD_BYTES)
        await writer.drain()


def test_what_ends_a_large_body_may_be_followed_by_a_head_in_parts() -> None:
    async def ask() -> None:
        body = b"x" * 3 * HEAD_BYTES
        large = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        async with connection() as (reader, writer):
            writer.write(large + REQUEST[:9])
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(body)) == body
            writer.write(REQUEST[9:])
            assert await reader.readexactly(len(ANSWER)) == ANSWER

    asyncio.run(ask())


@pytest.mark.parametrize("wish", [b"h2c\r\nConnection: Upgrade, HTTP2-Settings", b"websocket\r\nConnection: upgrade"])
def test_a_request_that_would_rather_have_another_protocol_is_answered_with_its_body(wish: bytes) -> None:
    asking = REQUEST.replace(b"Content-Length", b"Upgrade: " + wish + b"\r\nContent-Length")

    async def ask() -> None:
        async with connection() as (reader, writer):
            for cut in range(0, len(asking), 5):
                writer.write(asking[:cut])
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(asking[cut:] + asking + REQUEST)
                assert await reader.readexactly(3 * len(ANSWER)) == 3 * ANSWER

    asyncio.run(ask())


def test_a_request_of_http_1_0_has_no_other_protocol_to_wish_for() -> None:
    async def ask() -> None:
        async with connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.0\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 6\r\n\r\n123456")
            assert (await reader.read()).endswith(b"connection: close\r\n\r\n123456")

    asyncio.run(ask())


def test_requests_that_are_cut_anywhere_count_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.heads.HEAD_BYTES", 2 * len(REQUEST))

    async def ask() -> None:
        async with connection() as (reader, writer):
            writer.write(REQUEST[:9])
            for _ in range(5):
                writer.write(REQUEST[9:] + REQUEST[:9])
                assert await reader.readexactly(len(ANSWER)) == ANSWER

    asyncio.run(ask())
