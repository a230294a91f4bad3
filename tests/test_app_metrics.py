"""/metrics tells Prometheus what a process has done, with as many series as there are routes and no more."""

import asyncio
import base64
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from app.metrics import Metrics
from app.request_bodies import SMALL_BODY_BYTES, parsed
from app.request_counts import CountRequests
from tests.drawings import draw, encoded
from tests.processes import SMALL_SPEC, SOON_SECONDS, Service

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


async def scraped(metrics: Metrics) -> Samples:
    text, media_type = await metrics.scrape("")
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    return samples(text.decode())


def scrape(metrics: Metrics) -> Samples:
    return asyncio.run(scraped(metrics))


@asynccontextmanager
async def client(app: FastAPI, metrics: Metrics) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(CountRequests(app, metrics), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def _digit(number: int) -> int:
    return 7 // number


def test_requests_count_by_route_method_and_status() -> None:
    async def requests() -> Samples:
        app, metrics = FastAPI(), Metrics()
        app.add_api_route("/digits/{number}", _digit)
        async with client(app, metrics) as http:
            for path in ("/digits/1", "/digits/2", "/digits/two", "/digits/0"):
                await http.get(path)
            await http.post("/digits/1")
        return await scraped(metrics)

    found = asyncio.run(requests())
    route = {"route": "/digits/{number}"}
    for method, status, count in (("GET", "200", 2), ("GET", "422", 1), ("GET", "500", 1), ("POST", "405", 1)):
        assert value(found, "inkling_http_requests_total", method=method, status=status, **route) == count
    assert value(found, "inkling_http_request_duration_seconds_count", **route) == 5
    assert value(found, "inkling_http_request_duration_seconds_bucket", le="+Inf", **route) == 5


def test_paths_and_methods_that_are_made_up_add_one_series_each() -> None:
    async def requests() -> Samples:
        metrics = Metrics()
        async with client(FastAPI(), metrics) as http:
            for number in range(20):
                await http.get(f"/nowhere/{number}")
                await http.request(f"MAKE{number}", "/")
        return await scraped(metrics)

    found = asyncio.run(requests())
    assert value(found, "inkling_http_requests_total", route="none", method="GET", status="404") == 20
    assert value(found, "inkling_http_requests_total", route="none", method="other", status="404") == 20
    assert sum(name == "inkling_http_requests_total" for name, _ in found) == 2


def test_a_stream_counts_when_it_starts() -> None:
    metrics, counted = Metrics(), []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            counted.append(await scraped(metrics))
            yield b"."

    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks())

    async def request() -> None:
        app = FastAPI()
        app.add_api_route("/stream", stream, response_model=None)
        async with client(app, metrics) as http:
            assert (await http.get("/stream")).content == b"..."

    asyncio.run(request())
    labels = {"route": "/stream", "method": "GET", "status": "200"}
    assert [value(found, "inkling_http_requests_total", **labels) for found in counted] == [1, 1, 1]


def test_what_the_predictor_tells_is_shown() -> None:
    metrics = Metrics()
    metrics.queue_depth.set_function(lambda: 5)
    metrics.model("first")
    metrics.model("second")
    metrics.ran_batch(3)
    metrics.ran_batch(64)
    metrics.answered([0.55, 0.9999])
    metrics.compared(1, 1)
    found = scrape(metrics)
    assert value(found, "inkling_prediction_queue_depth") == 5
    models = [labels for name, labels in found if name == "inkling_model_info"]
    assert models == [(("model", "second"),)]
    assert value(found, "inkling_prediction_batch_size_sum") == 67
    assert value(found, "inkling_prediction_batch_size_bucket", le="4.0") == 1
    assert value(found, "inkling_prediction_confidence_count") == 2
    assert value(found, "inkling_prediction_confidence_bucket", le="0.6") == 1
    assert ("inkling_candidate_answers_total", (("agreed", "false"),)) in found  # from the start, so that rates are
    assert value(found, "inkling_candidate_answers_total", agreed="true") == 1


def test_each_app_has_numbers_of_its_own() -> None:
    Metrics().ran_batch(1)
    assert value(scrape(Metrics()), "inkling_prediction_batch_size_count") == 0


def test_runs_are_absent_while_the_database_is_away() -> None:
    def away() -> dict[str, int]:
        raise OperationalError("SELECT 1", {}, Exception("away"))

    metrics = Metrics()
    metrics.count_runs_by(away)
    assert not [name for name, _ in scrape(metrics) if name == "inkling_runs"]
    metrics.count_runs_by(lambda: {"queued": 3})
    assert value(scrape(metrics), "inkling_runs", state="queued") == 3


def test_a_database_that_hangs_is_asked_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics.RUNS_SECONDS", 0.05)
    asked, answered = [], threading.Event()

    def hang() -> dict[str, int]:
        asked.append(time.monotonic())
        answered.wait(SOON_SECONDS)
        return {"queued": 3}

    async def scrapes(metrics: Metrics) -> list[Samples]:
        found = await asyncio.gather(*(scraped(metrics) for _ in range(5)))
        answered.set()
        return list(found)

    metrics = Metrics()
    metrics.count_runs_by(hang)
    found = asyncio.run(scrapes(metrics))
    assert [value(scrape, "inkling_runs", state="queued") for scrape in found] == [0.0] * 5
    assert len(asked) == 1


def test_a_service_tells_of_its_requests_and_runs(service: Service) -> None:
    before = samples(service.http.get("/metrics").text)
    run = service.ended(service.train(**SMALL_SPEC))
    assert service.http.get(f"/train/{run['id']}").status_code == 200
    assert service.http.get("/train/nothing").status_code == 404
    service.http.get("/static/main.js")
    assert service.http.post("/predict", content=bytes(9_000_000)).status_code == 413
    response = service.http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    after = samples(response.text)

    def added(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert added("inkling_http_requests_total", route="/train", method="POST", status="202") == 1
    assert added("inkling_http_requests_total", route="/train/{run}", method="GET", status="404") == 1
    assert added("inkling_http_requests_total", route="/static", method="GET", status="200") == 1
    assert added("inkling_http_requests_total", route="/predict", method="POST", status="413") == 1
    assert added("inkling_http_requests_total", route="/metrics", method="GET", status="200") == 1
    assert added("inkling_runs", state="succeeded") == 1
    assert {dict(labels)["state"] for name, labels in after if name == "inkling_runs"} == {
        *("queued", "running", "succeeded", "failed", "cancelled")
    }
    assert value(after, "process_resident_memory_bytes") > 1e7
    assert value(after, "process_open_fds") > 3


def test_a_service_tells_of_its_predictions(service: Service) -> None:
    before = samples(service.http.get("/metrics").text)
    image = base64.b64encode(encoded(draw(7))).decode()
    confidence = service.http.post("/predict", json={"images": [image] * 3}).json()["predictions"][0]["confidence"]
    after = samples(service.http.get("/metrics").text)
    name = "inkling_prediction_confidence"
    assert value(after, f"{name}_count") - value(before, f"{name}_count") == 3
    assert value(after, f"{name}_sum") - value(before, f"{name}_sum") == pytest.approx(3 * confidence, abs=1e-4)
    name = "inkling_prediction_batch_size_sum"
    assert value(after, name) - value(before, name) == 3
    assert value(after, "inkling_model_info", model=service.get("/readyz")["model"]) == 1
    assert ("inkling_prediction_queue_depth", ()) in after


def test_openmetrics_is_spoken_to_who_asks_for_it(service: Service) -> None:
    response = service.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families: Any = list(openmetrics.text_string_to_metric_families(response.text))
    assert "inkling_http_requests" in {family.name for family in families}


def test_what_only_computes_is_done_though_every_thread_waits_for_the_database() -> None:
    answered = threading.Event()

    async def ask() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waiting = asyncio.create_task(asyncio.to_thread(answered.wait))
        try:
            async with asyncio.timeout(SOON_SECONDS):
                assert await parsed(len, bytes(SMALL_BODY_BYTES + 1)) == SMALL_BODY_BYTES + 1
                assert await scraped(Metrics())
        finally:
            answered.set()
            await waiting

    asyncio.run(ask())
