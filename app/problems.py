"""Every error as problem+json (RFC 9457): what handlers answer, and what the OpenAPI document says of it."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database import UNAVAILABLE
from app.errors import DatabaseAwayError, InklingError, describe
from app.schemas import SCHEMA_REF, FieldError, Problem, add_schema, located, message_of, told

REPORTED_ERRORS = 20
ALWAYS_AVAILABLE = ("/healthz", "/metrics", "/presets", "/v2", "/v2/health/live")  # without database and model
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}

_log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    app.add_exception_handler(InklingError, _answer_inkling_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    for error in UNAVAILABLE:
        app.add_exception_handler(error, _answer_database_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


class TooLargeAsProblem:
    """FastAPI's body limit answers 413 in plain text from outside every handler; this makes a problem of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            status = message.get("status") if scope["type"] == "http" else None
            if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and _is_plain_text(message):
                replaced = True
                answer = problem(scope, status, _too_large(scope), loc=("body",))
                await answer(scope, receive, send)
            else:
                await send(message)

        await self.app(scope, receive, send_problem)


def _is_plain_text(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")


def _too_large(scope: Scope) -> str:
    limit = getattr(scope.get("route"), "max_body_size", None) or scope["app"].max_body_size
    return f"the body is larger than the {limit:,} bytes that this route takes"


def document_problems(openapi: dict[str, Any]) -> None:
    """Gives every error in an OpenAPI document the one shape that all have here, instead of FastAPI's own.

    And adds those that many operations have in common.
    """
    schemas = openapi["components"]["schemas"]
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    add_schema(openapi, Problem)
    content = {"application/problem+json": {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}}}
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status, description in describe(*_common_errors(path, operation)).items():
                responses.setdefault(str(status), description)
            for status, response in responses.items():
                if status >= "400":
                    response["content"] = content
                if status in ("429", "503"):
                    response["headers"] = RETRY_AFTER


def _common_errors(path: str, operation: dict[str, Any]) -> list[int]:
    """A body is refused that cannot be read, comes too slowly, is too large or of another media type."""
    of_body = [400, 408, 413, 415] if "requestBody" in operation else []
    of_user = [401, 403] if "security" in operation else []
    unavailable = [] if path in ALWAYS_AVAILABLE else [503]
    return [*of_body, *of_user, *unavailable]


def problem(
    scope: Scope,
    status: int,
    detail: str,
    *,
    loc: Sequence[str | int] = (),
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """scope: of the request that it answers; loc: the one field that is wrong; errors: several."""
    errors = [FieldError(loc=list(loc), msg=detail)] if loc else list(errors)
    if any(isinstance(part, int) for part in loc):  # one of several that were sent
        detail = located(loc, detail)
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=errors or None,
        error=detail if f"{scope['path']}/".startswith("/v2/") else None,
    )
    content = body.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status, headers, media_type="application/problem+json")


async def _answer_inkling_error(request: Request, error: Any) -> JSONResponse:
    return problem(request.scope, error.status, str(error), loc=getattr(error, "loc", ()), headers=error.headers)


async def _answer_database_error(request: Request, error: Exception) -> JSONResponse:
    _log.warning("%s %s: %s", request.method, request.url.path, error.args[0] if error.args else error)
    return await _answer_inkling_error(request, DatabaseAwayError())


async def _answer_validation_error(request: Request, error: Any) -> JSONResponse:
    """Names every field that is wrong; what was sent is not echoed."""
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        wrong = JSONDecodeError(found[0]["ctx"]["error"], error.body, found[0]["loc"][-1])
        return _answer_no_json(request, wrong)
    errors = [_field_error(item) for item in told(found, {"body": error.body} if error.body else {})[:REPORTED_ERRORS]]
    media_type = request.headers.get("content-type", "missing")
    if [item.loc for item in errors] == [["body"]] and not media_type.startswith("application/json"):
        unread = f"Content-Type is {media_type}; expected application/json"
        return problem(request.scope, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, unread, loc=("header", "content-type"))
    detail = "; ".join(located(item.loc, item.msg) for item in errors[:5])
    return problem(request.scope, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _answer_no_json(request: Request, reason: BaseException) -> JSONResponse:
    """Without Python's own advice, behind a semicolon."""
    detail = f"not JSON: {str(reason).partition(';')[0]}"
    return problem(request.scope, HTTPStatus.UNPROCESSABLE_ENTITY, detail, loc=("body",))


def _field_error(item: Any) -> FieldError:
    """Without what was sent: a name that is no field's is cut short."""
    loc = [part[:100] if isinstance(part, str) else part for part in item["loc"]]
    return FieldError(loc=loc, msg=message_of(item))


async def _answer_http_exception(request: Request, error: Any) -> JSONResponse:
    headers = error.headers
    match error.status_code:
        case HTTPStatus.BAD_REQUEST if error.__cause__:
            return _answer_no_json(request, error.__cause__)
        case HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(sorted(_methods(request)))}
    loc = ("body",) if error.status_code in _BODY_ERRORS else ()
    return problem(request.scope, error.status_code, _detail(request, error), loc=loc, headers=headers)


def _methods(request: Request) -> set[str]:
    """All that the path answers; Starlette tells those of one route. HEAD is answered as GET."""
    routes = (context.original_route for context in iter_route_contexts(request.app.routes))
    found = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
    methods = {method for route in found for method in getattr(route, "methods", ())}
    return methods | {"HEAD"} if "GET" in methods else methods or {"GET", "HEAD"}  # the page's files


def _detail(request: Request, error: Any) -> str:
    """What FastAPI and Starlette raise by themselves says little more than its status."""
    match error.status_code:
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            asked = f"{request.method} {request.url.path[:100]}"
            return f"nothing here answers {asked}; /openapi.json describes what there is"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _too_large(request.scope)
    return str(error.detail)


_BODY_ERRORS = {  # what is raised while one is read
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


async def _answer_nobody(request: Request, error: Exception) -> JSONResponse:
    """Whoever sent the request has gone before its end: no failure of this service's."""
    return problem(request.scope, HTTPStatus.BAD_REQUEST, "the body broke off", loc=("body",))


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """uvicorn logs the failure, and all that is noted here, once this has answered."""
    request_id = secrets.token_hex(8)
    error.add_note(f"request {request_id}: {request.method} {request.url.path}")
    detail = f"something failed here; the log has it as {request_id}"
    return problem(request.scope, HTTPStatus.INTERNAL_SERVER_ERROR, detail)
