"""A service as its clients reach it: requests that are answered or raise, and event streams that survive a break.

ClientError
├── UnreachableError      no answer came
├── ServiceError          an answer other than success, with what problem+json (RFC 9457) says
└── UnknownAnswerError    an answer that is not the one asked for
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from app.schemas import Problem

RECONNECT_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_PASSING = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_HEADER_VALUE = re.compile("[!-~\x80-\xff]+( +[!-~\x80-\xff]+)*")

T = TypeVar("T", bound=BaseModel)


class ClientError(Exception):
    """What was asked for did not happen, or nobody knows; the text says why."""


class UnreachableError(ClientError):
    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(f"cannot reach {url}: {str(cause) or type(cause).__name__}")


class ServiceError(ClientError):
    """status, title, detail, errors: the problem's; retry_after: seconds, where the service says when to ask again."""

    def __init__(self, problem: Problem, retry_after: float | None) -> None:
        super().__init__(problem.detail)
        self.status, self.title, self.detail = problem.status, problem.title, problem.detail
        self.errors = problem.errors or []
        self.retry_after = retry_after


class UnknownAnswerError(ClientError):
    pass


class Message(NamedTuple):
    """One server-sent event."""

    event: str
    id: str | None
    data: str


class Connection:
    """Every method raises ClientError."""

    def __init__(self, url: str, *, key: str | None, timeout_seconds: float, patience_seconds: float) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise UnreachableError(url, ValueError("an address begins with http:// or https://"))
        headers = {b"Authorization": b"Bearer " + header_value(key, "the key")} if key else None
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)
        except httpx.InvalidURL as error:
            raise UnreachableError(url, error) from error
        self._url = str(self._http.base_url.copy_with(username=None, password=None)).rstrip("/")
        self._patience_seconds = patience_seconds
        self._reached = False  # somebody has answered

    def close(self) -> None:
        self._http.close()

    def read(self, kind: type[T], method: str, path: str, **request: Any) -> T:
        """The answer as `kind`; fields that a newer service has added are left out."""
        answer = self.request(method, path, **request)
        try:
            return kind.model_validate_json(answer.content, extra="ignore")
        except ValidationError as error:
            raise self._unknown(answer, kind, error) from error

    def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[bytes, bytes] | None = None, **request: Any
    ) -> httpx.Response:
        """json: what becomes the body, pydantic's objects and NumPy's numbers included."""
        if json is not None:
            request["content"] = to_json(json, fallback=lambda value: value.tolist())
            headers = {**(headers or {}), b"Content-Type": b"application/json"}
        try:
            answer = self._http.request(method, path, headers=headers, **request)
        except httpx.RequestError as error:
            raise UnreachableError(self._url, error) from error
        self._reached = True
        return _successful(answer)

    def follow(self, path: str) -> Iterator[Message]:
        """The messages of an event stream, without end: wherever it breaks off, it goes on behind the last one.

        Raises what was wrong last when that has lasted for patience_seconds, and at once where nobody ever answered.
        """
        last, failing_since = None, 0.0
        while True:
            pause = RECONNECT_SECONDS
            try:
                with self._stream(path, last) as lines:
                    failing_since = 0.0
                    for message in _messages(lines):
                        last = message.id or last
                        yield message
            except (UnreachableError, ServiceError) as error:
                failing_since = failing_since or time.monotonic()
                if not (self._reached and _passes(error)) or time.monotonic() - failing_since > self._patience_seconds:
                    raise
                pause = min(getattr(error, "retry_after", None) or pause, LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    @contextmanager
    def _stream(self, path: str, last_id: str | None) -> Iterator[Iterator[str]]:
        """The lines of an event stream from behind a message on."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        try:
            with self._http.stream("GET", path, headers=headers) as answer:
                self._reached = True
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    answer.read()
                    _successful(answer)
                    raise UnknownAnswerError(f"{self._url}{path} answers no event stream; is the address Inkling's?")
                yield _lines(answer.iter_bytes())
        except httpx.RequestError as error:
            raise UnreachableError(self._url, error) from error

    def _unknown(self, answer: httpx.Response, kind: type[BaseModel], error: ValidationError) -> UnknownAnswerError:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        return UnknownAnswerError(
            f"{self._url}{answer.request.url.path} answers with what is no {kind.__name__} here ({where}: "
            f"{first['msg']}); is the address Inkling's, and the service no newer than this client?"
        )


def header_value(text: str, what: str) -> bytes:
    """Raises ClientError, which does not repeat the text: it may be secret."""
    if not _HEADER_VALUE.fullmatch(text):
        raise ClientError(f"{what} has characters that no HTTP header can carry, such as a line's end")
    return text.encode("latin-1")


def _successful(answer: httpx.Response) -> httpx.Response:
    """Raises ServiceError for any other."""
    if answer.is_success:
        return answer
    try:
        problem = Problem.model_validate_json(answer.content, extra="ignore")
    except ValidationError:  # from something that stands between
        said = f"{answer.status_code} {answer.reason_phrase}"
        to = answer.next_request
        elsewhere = f", to {to.url}; give the service's address as it is there" if to else ""
        detail = f"{answer.request.method} {answer.request.url.path}: the answer is {said}{elsewhere}"
        problem = Problem(title=answer.reason_phrase, status=answer.status_code, detail=detail)
    raise ServiceError(problem, _seconds(answer.headers.get("retry-after", "")))


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isdecimal() else None


def _passes(error: ClientError) -> bool:
    return isinstance(error, UnreachableError) or (isinstance(error, ServiceError) and error.status in _PASSING)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Not httpx's own: those end at every character that Unicode calls a line's end, which a message may hold."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode(errors="replace") for line in lines)


def _messages(lines: Iterable[str]) -> Iterator[Message]:
    """What is there at a break without the blank line that ends a message is none."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" in fields else value
        elif not line:
            if "data" in fields:
                yield Message(fields.get("event", "message"), fields.get("id"), fields["data"])
            fields = {}
