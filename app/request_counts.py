"""Every request in the metrics, by the route that took it."""

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NO_ROUTE = "none"  # whatever paths are tried that no route has, they are one label
OTHER_METHOD = "other"


class _Series(NamedTuple):
    """What counts the requests with the same labels."""

    increment: Callable[[], None]
    observe_seconds: Callable[[float], None]


class CountRequests:
    """Counts every request when its answer starts, by the route that took it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._series: dict[tuple[str, str, int], _Series] = {}  # labels are looked up once; that is most of the cost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = partial(self._send, scope, send, perf_counter())
        await self._app(scope, receive, send)

    def _send(self, scope: Scope, send: Send, started: float, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            series = self._of(scope, message["status"])
            series.increment()
            series.observe_seconds(perf_counter() - started)
        return send(message)

    def _of(self, scope: Scope, status: int) -> _Series:
        key = (_template(scope), scope["method"], status)
        series = self._series.get(key)
        return self._add(*key) if series is None else series

    def _add(self, route: str, method: str, status: int) -> _Series:
        known = method if method in METHODS else OTHER_METHOD
        series = _Series(
            self._metrics.requests.labels(route, known, str(status)).inc,
            self._metrics.request_seconds.labels(route).observe,
        )
        if known == method:
            self._series[route, method, status] = series
        return series


def _template(scope: Scope) -> str:
    """The path of the route or mount that took the request."""
    route = scope.get("route")
    if route is not None:
        return route.path
    return scope["root_path"].removeprefix(scope["app_root_path"]) if "app_root_path" in scope else NO_ROUTE
