"""The API process: routes, the page, and the models that answer predictions.

python -m app.main --fd N serves on the listening socket that the parent process passes on as descriptor N.
"""

import gc

if __name__ == "__main__":  # to look through what is imported for cycles, again and again, is a sixth of a start
    gc.disable()

import argparse
import asyncio
import logging
import os
import resource
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app import logs, problems, users
from app.bodies import BodyLimits
from app.database import UNAVAILABLE, Database, NewerDatabaseError, persisting
from app.dependencies import State, only_known_parameters
from app.errors import describe
from app.head_requests import HeadAsGet
from app.heads import BoundedHeads
from app.jobs import Jobs
from app.lifeline import end_with_parent
from app.metrics import Metrics
from app.predictor import Predictor
from app.registry import Registry
from app.request_counts import CountRequests
from app.routes import aliases, evaluate, health, inference, metrics, models, predict, train
from app.schemas import RunEnd, add_schema
from app.settings import Settings
from app.uploads import Uploads
from model.compilation import configure_jax
from model.presets import PRESETS, PresetName

STATIC = Path(__file__).parent.parent / "static"
FIRST_PRESET: PresetName = "quick"
OPEN_FILES = 65_536
KEEP_ALIVE_SECONDS = 130  # Caddy keeps what rests for 120, and answers 502 where we close it at that very moment
YOUNG_OBJECTS = 10_000  # made between two looks for cycles; Python's 700 are reached by ten requests that wait
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}

_log = logging.getLogger(__name__)


class Service(FastAPI):
    """FastAPI with every error, its own included, as a problem."""

    def build_middleware_stack(self) -> ASGIApp:
        layers = problems.TooLargeAsProblem(super().build_middleware_stack())
        settings: Settings = self.state.settings
        quick = BodyLimits(predict.QuickPredict(layers, settings.max_body_bytes), settings.body_seconds)
        answering = HeadAsGet(CountRequests(quick, self.state.metrics))
        if not settings.allowed_origins:
            return answering
        read = ("Location", "Retry-After")  # beside what every page may read of an answer
        return CORSMiddleware(answering, settings.allowed_origins, ["*"], ["*"], expose_headers=read)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = super().openapi()
            add_schema(self.openapi_schema, RunEnd)  # of a run's events, which the document has as one text
            problems.document_problems(self.openapi_schema)
            if not self.state.settings.api_keys:
                users.document_no_keys(self.openapi_schema)
        return self.openapi_schema


class FreshStaticFiles(StaticFiles):
    """Asked for again at every load, so that no browser mixes the modules of two versions; ETags make that cheap."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: Settings) -> FastAPI:
    app = Service(
        title="Inkling",
        summary="Trains digit classifiers and serves them",
        version=version("inkling"),
        lifespan=lambda app: _lifespan(app, settings),
        max_body_size=settings.max_body_bytes,
        docs_url=None,  # its page is loaded from a CDN; /openapi.json is here
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what a client made of the document calls its methods
        telemetry={"auto_configure": True},  # does nothing until OTEL_EXPORTER_OTLP_ENDPOINT names a collector
    )
    app.state.settings, app.state.metrics = settings, Metrics()
    problems.install(app)
    # The first is found soonest; aliases before models, whose /models/{model} takes any name.
    for routes in (predict, train, evaluate, aliases, models):
        app.include_router(routes.router, dependencies=[Depends(only_known_parameters)], responses=describe(422))
    for routes in (inference, health, metrics):  # of those who ask these, some add parameters of their own
        app.include_router(routes.router)
    app.mount("/static", FreshStaticFiles(directory=STATIC))
    app.add_api_route("/", _page, include_in_schema=False)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[State]:
    configure_jax(settings.cache_dir)
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # to hand over to a thread takes as long as to predict
    database = Database(settings.database)
    try:
        await persisting(database.migrate)
    except NewerDatabaseError as error:
        _log.error("%s", error)
        os._exit(1)  # at once: uvicorn would add a traceback
    registry = Registry(database)
    jobs = await persisting(lambda: Jobs(database, registry, settings))
    predictor = Predictor(registry, settings, app.state.metrics)
    if await persisting(registry.default) is None:
        await jobs.enqueue_first(PRESETS[FIRST_PRESET].spec)
    await predictor.try_refresh()  # a restarted API answers its first request with a warm model
    app.state.metrics.count_runs_by(jobs.counts)
    gc.freeze()  # what was imported and compiled stays: looking through it took a sixth of a request's time
    gc.set_threshold(YOUNG_OBJECTS)
    app.state.release_watchers = jobs.feeds.close
    following = asyncio.create_task(predictor.follow_default(settings.default_poll_seconds))
    yield State(
        settings=settings,
        jobs=jobs,
        metrics=app.state.metrics,
        registry=registry,
        predictor=predictor,
        uploads=Uploads(registry, settings.cache_dir),
    )
    following.cancel()
    await asyncio.wait([following])
    with suppress(*UNAVAILABLE):
        await asyncio.to_thread(predictor.save_counts)
    jobs.close()
    database.close()


async def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


class Server(uvicorn.Server):
    """Ends as soon as it is told to; uvicorn by itself first waits for its start, and for event streams to end."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedHeads,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=2,
            )
        )
        self.app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Until it has started there is nothing to end in order, and the database that it waits for may never come."""
        if not self.started:
            os._exit(0)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.state.release_watchers()
        await super().shutdown(sockets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the listening socket")
    listening = socket.socket(fileno=parser.parse_args().fd)
    settings = Settings()
    logs.configure("api", settings)
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")  # seconds; 10 is what the supervisor gives all of the end
    # JAX' warning, where uvloop starts an upload's scorer: the child does nothing but become another program.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    end_with_parent()
    _allow_many_connections()
    Server(create_app(settings)).run(sockets=[listening])


def _allow_many_connections() -> None:
    """Each is an open file, of which many systems allow a process 1,024 until it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a limit beyond the one that it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main()
