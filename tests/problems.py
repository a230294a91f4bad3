"""What every refusal looks like."""

from typing import Any


def problem(response: Any, status: int, *loc: str | int) -> str:
    """Checks an error's shape and the field that it names; returns its detail."""
    body = response.json()
    assert (response.status_code, body["status"]) == (status, status), body
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(body)
    if loc:
        assert any(tuple(error["loc"][: len(loc)]) == loc for error in body["errors"]), body
    assert "input" not in body
    return str(body["detail"])
