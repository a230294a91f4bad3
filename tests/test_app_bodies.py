"""A body that comes too slowly, or is more than there is room for, is refused, and nothing waits for it any longer."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app.bodies import SMALL_BYTES, BodyLimits
from app.routes.models import FILE_TYPE
from app.uploads import UPLOADS_AT_ONCE
from tests.drawings import draw
from tests.files import GOOD, upload
from tests.models import FirstModel
from tests.processes import SMALL_SPEC, SOON_SECONDS, Service, serving

BODY_SECONDS = 3.0
PAUSE_SECONDS = 0.1
PART = '--b\r\nContent-Disposition: form-data; name="image"; filename="7.png"\r\n\r\n'


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory, with_model: FirstModel) -> Iterator[Service]:
    folder = with_model(tmp_path_factory.mktemp("hurried"))
    with serving(folder, "api", INKLING_BODY_SECONDS=str(BODY_SECONDS)) as service:
        service.ready()
        yield service


def answer(connection: socket.socket) -> tuple[str, bytes]:
    """Sends a byte now and then until there is an answer; its head, and all behind it until the connection ends."""
    connection.settimeout(PAUSE_SECONDS)
    for _ in range(int(SOON_SECONDS / PAUSE_SECONDS)):
        try:
            received = connection.recv(65_536)
            break
        except TimeoutError:
            connection.sendall(b" ")
    connection.settimeout(SOON_SECONDS)
    with suppress(ConnectionResetError):  # the end of a connection whose last byte crossed the answer
        while more := connection.recv(65_536):
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/train", "application/json", "{"),
        ("/predict", "application/json", "{"),
        ("/predict", "image/png", ""),
        ("/predict", "multipart/form-data; boundary=b", PART),
        ("/v2/models/default/infer", "application/json", "{"),
    ],
    ids=["a training", "pixels", "a picture", "a form", "version 2"],
)
def test_a_body_that_comes_too_slowly_is_refused(hurried: Service, path: str, media_type: str, body: str) -> None:
    with hurried.begin(path, media_type, body) as connection:
        head, content = answer(connection)
    assert head.startswith("HTTP/1.1 408 ")
    assert "content-type: application/problem+json" in head
    problem = json.loads(content)
    assert problem["status"] == 408
    assert problem["errors"][0]["loc"] == ["body"]
    assert "not arrived within 3 s" in problem["detail"]


def test_the_time_of_a_prediction_begins_when_its_body_has_come(tmp_path: Path, with_model: FirstModel) -> None:
    bodies = {
        "/predict": {"pixels": np.asarray(draw(7)).tolist()},
        "/v2/models/default/infer": {
            "inputs": [{"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}]
        },
    }

    def slowly(body: dict[str, Any]) -> Iterator[bytes]:
        content = json.dumps(body).encode()
        yield content[:-1]
        time.sleep(1.5)
        yield content[-1:]

    with serving(with_model(tmp_path), "api", INKLING_PREDICT_SECONDS="1") as service:
        service.ready()
        headers = {"content-type": "application/json"}
        for path, body in bodies.items():
            response = service.http.post(path, content=slowly(body), headers=headers)
            assert response.status_code == 200, (path, response.text)


def test_uploads_that_stall_give_their_places_back(hurried: Service) -> None:
    with ExitStack() as stack:
        stalled = [stack.enter_context(hurried.begin("/models", FILE_TYPE)) for _ in range(UPLOADS_AT_ONCE)]
        for connection in stalled:
            head, _ = answer(connection)
            assert head.startswith("HTTP/1.1 408 ")
        assert upload(hurried, GOOD).status_code == 201


def test_a_stream_of_events_outlives_the_time_that_a_body_has(hurried: Service) -> None:
    run = hurried.train(**SMALL_SPEC)
    with hurried.http.stream("GET", f"/train/{run}/events") as events:
        time.sleep(2 * BODY_SECONDS)
        assert hurried.http.post(f"/train/{run}/cancel").status_code == 202
        assert "event: end" in list(events.iter_lines())


def test_large_bodies_are_refused_while_others_take_all_the_room_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.bodies.HELD_BYTES", 3 * SMALL_BYTES)
    full, answered = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/held":
            full.set()
            await answered.wait()

    limits = BodyLimits(app, BODY_SECONDS)

    async def ask(path: str, size: int) -> None:
        chunks = iter([{"type": "http.request", "body": bytes(size // 2), "more_body": more} for more in (True, False)])

        async def receive() -> Message:
            return next(chunks)

        await limits({"type": "http", "path": path}, receive, receive)

    async def use() -> None:
        held = asyncio.create_task(ask("/held", 2 * SMALL_BYTES))
        await full.wait()
        await ask("/", SMALL_BYTES)
        with pytest.raises(HTTPException, match="bodies of 196,608 bytes wait to be answered") as refused:
            await ask("/", 2 * SMALL_BYTES)
        assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})
        answered.set()
        await held
        await ask("/", 2 * SMALL_BYTES)

    asyncio.run(use())
