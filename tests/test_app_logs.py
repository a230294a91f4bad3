"""What is logged of failures: each once, with what is needed to find it."""

import logging
import signal

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import logs, problems
from app.crashes import describe_crash
from app.settings import Settings


def test_an_unexpected_failure_is_logged_with_the_id_that_its_answer_tells(caplog: pytest.LogCaptureFixture) -> None:
    app, failure = FastAPI(), RuntimeError("a secret")
    problems.install(app)

    @app.get("/broken")
    async def broken() -> None:
        raise failure

    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    request_id = answer.json()["detail"].rpartition(" ")[2]
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert failure.__notes__ == [f"request {request_id}: GET /broken"]  # uvicorn logs them with the traceback
    assert not any(record.exc_info for record in caplog.records)


def test_an_outage_is_one_line_even_where_it_has_no_text(caplog: pytest.LogCaptureFixture) -> None:
    logs.configure("test", Settings())
    try:
        raise TimeoutError
    except TimeoutError:
        logging.getLogger("dbos").exception("the queue is away\nTraceback (most recent call last):\n  ...")
    assert [record.getMessage() for record in caplog.records] == ["the queue is away TimeoutError"]
    assert caplog.records[0].exc_info is None


def test_the_least_severe_level_logged_is_everybodys() -> None:
    for asked, heard in (("ERROR", logging.ERROR), ("DEBUG", logging.WARNING)):
        logs.configure("test", Settings(log_level=asked))
        assert {logging.getLogger(name).level for name in logs.QUIET} == {heard}


@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 1, "35")])
def test_a_process_that_a_signal_ends_says_which(number: int, name: str) -> None:
    assert describe_crash(-number, 0) == f"the training process ended by signal {name}"
