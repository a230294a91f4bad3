"""Who asks: the name that a key stands for, or the client's address where no keys are set."""

import secrets
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.dependencies import SettingsDep
from app.errors import ForbiddenError, UnauthorizedError
from app.scheduling import Priority
from app.settings import Settings

_BEARER = HTTPBearer(description="A key, where the service has some", auto_error=False)


async def _user(
    request: Request,
    settings: SettingsDep,
    given: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> str:
    """Raises UnauthorizedError where keys are set and none of them is given, and ForbiddenError for foreign pages."""
    _refuse_foreign_pages(request, settings)
    if not settings.api_keys:
        return request.client.host if request.client else "unknown"
    for name, key in settings.api_keys.items():
        if given and _is(key.get_secret_value(), given.credentials):
            return name
    raise UnauthorizedError(is_wrong=given is not None)


def _refuse_foreign_pages(request: Request, settings: Settings) -> None:
    """What a browser sends without asking first, as it does what has no body, for a page of another site.

    Told by Sec-Fetch-Site, as Go's http.CrossOriginProtection does; browsers leave it out to unencrypted addresses
    other than the machine's own.
    """
    origin = request.headers.get("origin")
    is_own = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    if not is_own and not {"*", origin} & {*settings.allowed_origins}:
        raise ForbiddenError(f"{origin or 'the page'} is another site; INKLING_ALLOWED_ORIGINS names those that may")


def _is(key: str, given: str) -> bool:
    """What is not ASCII in a key comes as Latin-1, which Starlette takes it for, or as UTF-8, from curl say."""
    sent = given.encode("latin-1")
    return any(secrets.compare_digest(key.encode(encoding), sent) for encoding in ("latin-1", "utf-8"))


UserDep = Annotated[str, Depends(_user)]
KEYED = Depends(_user)  # for a route that asks for a key, whoever's it is


def document_no_keys(openapi: dict[str, Any]) -> None:
    """Takes the keys out of an OpenAPI document, so that a client made of it asks nobody for one."""
    del openapi["components"]["securitySchemes"]
    for operations in openapi["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
            operation["responses"].pop("401", None)


def require_priority(user: str, priority: Priority, settings: Settings) -> None:
    """Raises ForbiddenError for a high priority that the user may not claim."""
    if priority == "high" and user not in settings.priority_users:
        raise ForbiddenError("only the users in INKLING_PRIORITY_USERS may train with high priority")


def may_change(user: str, owner: str | None, settings: Settings) -> None:
    """Raises ForbiddenError for another user's run; the service's own, and those of users without a key, are all's."""
    if owner in settings.api_keys and user != owner and user not in settings.priority_users:
        raise ForbiddenError("this run is another user's; only they and priority users may cancel or delete it")
