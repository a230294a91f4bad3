"""The error tree; `app.problems` answers each as problem+json (RFC 9457).

InklingError
├── UnauthorizedError 401
├── ForbiddenError 403
├── NotFoundError 404          RunNotFoundError, ModelNotFoundError, AliasNotFoundError
├── ConflictError 409          RunEndedError, RunActiveError, KeyTakenError, UnreadableRunError, ModelInUseError,
│                              CandidateError, SupersededError, UnusableModelError
├── InvalidInputError 422      one field of the request, named; ReservedAliasError
│   ├── TooLargeError 413
│   └── MediaTypeError 415
├── TooManyRunsError 429       with Retry-After
└── UnavailableError 503       with Retry-After: QueueFullError, NoModelError, DatabaseAwayError, BusyError,
                               DeadlineError, TooManyUploadsError, ScoringError
"""

from http import HTTPStatus
from typing import Any, ClassVar


class InklingError(Exception):
    """An answer other than success that the caller can act on; its text is the problem's detail."""

    status: ClassVar[HTTPStatus]
    headers: ClassVar[dict[str, str]] = {}


class UnauthorizedError(InklingError):
    status = HTTPStatus.UNAUTHORIZED
    headers: ClassVar = {"WWW-Authenticate": "Bearer"}

    def __init__(self, *, is_wrong: bool) -> None:
        what = "this is no key of this service; send one" if is_wrong else "this service asks for a key; send it"
        super().__init__(f"{what} as `Authorization: Bearer KEY`")


class ForbiddenError(InklingError):
    status = HTTPStatus.FORBIDDEN


class NotFoundError(InklingError):
    status = HTTPStatus.NOT_FOUND


class RunNotFoundError(NotFoundError):
    def __init__(self, run: str) -> None:
        super().__init__(f"there is no run {run!r}; GET /train lists the runs")


class ModelNotFoundError(NotFoundError):
    def __init__(self, model: str) -> None:
        super().__init__(f"there is no model or alias {model!r}; GET /models lists the models")


class AliasNotFoundError(NotFoundError):
    def __init__(self, alias: str) -> None:
        super().__init__(f"there is no alias {alias!r}; GET /aliases lists the aliases")


class ConflictError(InklingError):
    status = HTTPStatus.CONFLICT


class RunEndedError(ConflictError):
    def __init__(self, run: str, state: str) -> None:
        super().__init__(f"run {run} has ended ({state}); only a queued or running one can be cancelled")


class RunActiveError(ConflictError):
    def __init__(self, run: str, state: str) -> None:
        super().__init__(f"run {run} is {state}; cancel it first, only one that has ended can be deleted")


class KeyTakenError(ConflictError):
    def __init__(self, run: str) -> None:
        super().__init__(
            f"this Idempotency-Key is that of run {run}, whose spec is another, or which was deleted; take a new key"
        )


class UnreadableRunError(ConflictError):
    def __init__(self, run: str, reason: str) -> None:
        super().__init__(f"run {run} was queued by another version, with a spec that this one does not take: {reason}")


class ModelInUseError(ConflictError):
    def __init__(self, model: str, alias: str) -> None:
        super().__init__(f"model {model} is {alias!r}; point the alias to another model first")


class CandidateError(ConflictError):
    def __init__(self, model: str) -> None:
        super().__init__(f"model {model} is the default already; try another one beside it")


class SupersededError(ConflictError):
    """An attempt at a run that another worker has taken over, or that has ended."""

    def __init__(self, run: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} at run {run} is not its newest: it was taken over, or has ended")


class UnusableModelError(ConflictError):
    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"model {model} cannot answer: {reason}; ask for another")


class InvalidInputError(InklingError):
    """loc: the path of what is wrong, as pydantic has them: ("body", "image")."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, message: str, *loc: str | int) -> None:
        super().__init__(message)
        self.loc = loc


class ReservedAliasError(InvalidInputError):
    def __init__(self, message: str) -> None:
        super().__init__(message, "path", "alias")


class TooLargeError(InvalidInputError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class MediaTypeError(InvalidInputError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class TooManyRunsError(InklingError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    headers: ClassVar = {"Retry-After": "30"}

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} of your runs are waiting, as many as one user may have; cancel one, or try again later"
        )


class UnavailableError(InklingError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: ClassVar = {"Retry-After": "5"}


class QueueFullError(UnavailableError):
    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} runs are waiting already, as many as the queue takes; try again later")


class DatabaseAwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("the database does not answer, or its disk is full; try again later")


class TooManyUploadsError(UnavailableError):
    def __init__(self, uploads: int) -> None:
        super().__init__(f"{uploads} models are being uploaded already, as many as this process takes; try again later")


class ScoringError(UnavailableError):
    """A model that was uploaded could not be scored, for reasons that may pass."""


class NoModelError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("no model is ready yet; GET /train shows the runs, and why one failed")


class BusyError(UnavailableError):
    headers: ClassVar = {"Retry-After": "1"}

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} images are waiting already, as many as this queue takes; try again in a moment")


class DeadlineError(UnavailableError):
    headers: ClassVar = {"Retry-After": "1"}

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not answered within its time: it had waited for {seconds:.1f} s; try again in a moment")


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route answers with, for OpenAPI; `app.problems` adds their shape, and those of many routes."""
    return {status: {"description": HTTPStatus(status).phrase} for status in statuses}
