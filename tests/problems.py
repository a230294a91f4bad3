"""What every refusal looks like."""

from http import HTTPStatus
from typing import Any


def problem(response: Any, status: int, *loc: str | int) -> str:
    """Checks an error's shape and the field that it names; returns its detail."""
    body = response.json()
    errors = body.pop("errors", [])
    detail = body["detail"]
    expected = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if response.url.path.startswith("/v2"):
        expected["error"] = detail  # as the Open Inference Protocol has it
    assert (response.status_code, body) == (status, expected)
    assert response.headers["content-type"] == "application/problem+json"
    assert all(set(error) == {"loc", "msg"} for error in errors), errors  # what was sent is not among it
    assert errors or status != HTTPStatus.UNPROCESSABLE_ENTITY
    assert not loc or list(loc) in [error["loc"] for error in errors], errors
    return str(detail)
