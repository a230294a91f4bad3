"""The API process: routes, the page, and the models that answer predictions.

python -m app.main --fd N serves on the listening socket that the parent process passes on as descriptor N.
"""

import argparse
import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from app import errors, logs
from app.dependencies import State
from app.jobs import Jobs
from app.lifeline import end_with_parent
from app.predictor import Predictor
from app.registry import Registry
from app.routes import evaluate, health, models, predict, train
from app.settings import Settings
from model.compilation import use_compilation_cache
from model.spec import PRESETS

STATIC = Path(__file__).parent.parent / "static"
FIRST_PRESET = "quick"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
SHUTDOWN_SECONDS = 2  # for open event streams: their readers resume at the next process


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        use_compilation_cache(settings.cache_dir)
        registry = Registry(settings.registry_path)
        jobs = Jobs(settings.queue_path, max_queued_runs=settings.max_queued_runs)
        predictor = Predictor(registry)
        if not registry.models():
            await jobs.enqueue_first(PRESETS[FIRST_PRESET].spec)
        await predictor.try_refresh()  # a restarted API answers its first request with a warm model
        following = asyncio.create_task(predictor.follow_default(settings.default_poll_seconds))
        yield State(settings=settings, jobs=jobs, registry=registry, predictor=predictor)
        following.cancel()
        jobs.close()
        registry.close()

    app = FastAPI(
        title="Inkling",
        summary="Trains digit classifiers and serves them",
        version="0.1.0",
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        docs_url=None,  # its page is loaded from a CDN; /openapi.json is here
        redoc_url=None,
    )
    errors.install(app)
    for routes in (train, evaluate, predict, models, health):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_api_route("/", _page, include_in_schema=False)
    build_middleware = app.build_middleware_stack
    app.build_middleware_stack = lambda: errors.DeclaredSizeLimit(build_middleware(), settings.max_body_bytes)  # type: ignore[method-assign]
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        errors.document_problems(app.openapi_schema)
    return app.openapi_schema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the listening socket")
    listening = socket.socket(fileno=parser.parse_args().fd)
    settings = Settings()
    logs.configure("api", settings)
    end_with_parent()
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
