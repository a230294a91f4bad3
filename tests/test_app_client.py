"""app.client against a real service, and against what else may answer at an address."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import typer

from app import cli_remote
from app.client import ClientError, Inkling, ServiceError, UnknownAnswerError, UnreachableError
from app.schemas import Progress, Run, RunEnd, RunState
from app.statuses import ACTIVE
from model.checkpoint import from_bytes
from model.drawing import from_image
from model.reports import EpochReport
from model.spec import TrainSpec
from model.spec_optimizers import Sgd
from tests.drawings import draw, draw_number, encoded
from tests.files import file
from tests.processes import LONG_SPEC, ROOT, SMALL_SPEC, Service, serving
from tests.trainings import small_spec

SEVEN = ROOT / "static" / "seven.png"


@pytest.fixture(scope="module")
def inkling(service: Service) -> Iterator[Inkling]:
    with Inkling(service.url) as inkling:
        yield inkling


@pytest.fixture(scope="module")
def model(inkling: Inkling) -> str:
    """A small model beside the default."""
    return str(inkling.wait(inkling.train(SMALL_SPEC)).model)


def test_a_client_needs_neither_jax_nor_a_database_nor_a_web_server() -> None:
    heavy = {"jax", "optax", "sqlalchemy", "dbos", "fastapi", "uvicorn", "numpy", "PIL"}
    command = [sys.executable, "-c", f"import sys, app.client; print({heavy} & sys.modules.keys())"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "set()\n"


def test_a_training_is_queued_watched_and_waited_for(inkling: Inkling) -> None:
    run = inkling.train(SMALL_SPEC, name="watched", epochs=2)
    assert (run.name, run.spec.epochs, run.spec.batch_size) == ("watched", 2, 1000)
    assert run.state in ACTIVE  # an idle worker may claim it before it is answered
    *reports, end = inkling.watch(run)
    assert isinstance(end, RunEnd) and end.state == "succeeded"
    assert [report.epoch for report in reports if isinstance(report, EpochReport)] == [1, 2]
    progress = [report for report in reports if isinstance(report, Progress)]
    assert (progress[-1].step, progress[-1].steps) == (120, 120)
    ended = inkling.wait(run.id)
    assert (ended.model, len(ended.history)) == (end.model, 2)
    assert inkling.run(run) == ended


def test_a_spec_is_a_dict_an_object_a_preset_or_fields(inkling: Inkling) -> None:
    assert inkling.dry_run().parameters == 648_010
    quick = inkling.dry_run(preset="quick", epochs=1)
    assert (quick.spec.name, quick.spec.epochs, quick.spec.batch_size) == ("quick", 1, 128)
    spec = small_spec(name="an object")
    assert inkling.dry_run(spec).spec == spec
    assert inkling.dry_run({"epochs": 3}, optimizer=Sgd()).spec.optimizer == Sgd()


def test_a_training_that_is_sent_again_with_its_key_is_one(inkling: Inkling) -> None:
    first, second = (inkling.train(LONG_SPEC, idempotency_key="Übung 1") for _ in range(2))
    assert first.id == second.id
    inkling.cancel(first)


def test_runs_are_read_page_by_page_newest_first(inkling: Inkling, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.RUNS_ON_A_PAGE", 1)
    run = inkling.train(LONG_SPEC, priority="low")
    runs = list(inkling.runs())
    assert runs[0].id == run.id
    assert len({run.id for run in runs}) == len(runs) >= 3
    assert runs[-1].id == "first-0"
    assert [run.id for run in inkling.runs(states=["succeeded"])] == [
        run.id for run in runs if run.state == "succeeded"
    ]
    assert list(inkling.runs(user="ada")) == []  # there are no keys
    inkling.cancel(run)


def test_a_run_is_cancelled_once(inkling: Inkling) -> None:
    run = inkling.train(LONG_SPEC)
    assert inkling.cancel(run).state == "cancelled"
    with pytest.raises(ServiceError, match="has ended") as refused:
        inkling.cancel(run)
    assert (refused.value.status, refused.value.title) == (409, "Conflict")
    assert list(inkling.watch(run))[-1] == RunEnd(state="cancelled")


def test_every_form_of_a_drawing_is_named_alone_and_among_others(inkling: Inkling) -> None:
    drawings = [
        SEVEN,
        str(SEVEN),
        SEVEN.read_bytes(),
        bytearray(SEVEN.read_bytes()),
        encoded(draw(7), "jpeg"),
        np.asarray(draw(7)),
    ]
    alone = [inkling.predict(drawing) for drawing in drawings]
    assert [answer.digit for answer in alone] == [7] * 6
    together = inkling.predict([*drawings, encoded(draw(4))])
    assert [answer.digit for answer in together] == [7] * 6 + [4]
    assert together[0].probabilities == pytest.approx(alone[0].probabilities, abs=1e-5)
    assert inkling.predict([]) == []


def test_a_model_and_extra_fields_are_asked_for(inkling: Inkling, model: str) -> None:
    answer = inkling.predict(SEVEN, model=model, include=["seen"])
    assert answer.model == model
    assert answer.seen == from_image(SEVEN.read_bytes()).tolist()
    assert inkling.predict([SEVEN], model=inkling.model(model))[0].model == model
    assert inkling.predict(SEVEN).seen is None
    why = inkling.predict(SEVEN, include=("saliency", "activations"))
    assert why.saliency is not None and len(why.saliency) == 28
    assert why.activations is not None and why.activations[-1].size == 10
    assert inkling.predict(SEVEN, include="seen").seen == answer.seen


def test_a_number_is_read_digit_by_digit(inkling: Inkling) -> None:
    read = inkling.read_number(encoded(draw_number([7, 1, 4])), include=["seen"])
    assert (read.number, [digit.digit for digit in read.digits]) == ("714", [7, 1, 4])
    assert all(len(digit.box) == 4 and digit.seen for digit in read.digits)


def test_what_is_wrong_with_a_request_is_named(inkling: Inkling) -> None:
    with pytest.raises(ServiceError) as refused:
        inkling.train(epochs=0, batch_size=0)
    assert refused.value.status == 422
    assert [error.loc for error in refused.value.errors] == [["body", "batch_size"], ["body", "epochs"]]
    assert str(refused.value).startswith("body.batch_size: Input should be greater than or equal to 1")
    with pytest.raises(ServiceError, match="there is no run 'no where'"):
        inkling.run("no where")
    with pytest.raises(ServiceError, match="there is no run 'nowhere'"):
        next(inkling.watch("nowhere"))
    with pytest.raises(ServiceError) as unread:
        inkling.predict([SEVEN, b"no image"])
    assert unread.value.errors[0].loc == ["body", "images", 1]
    with pytest.raises(FileNotFoundError):
        inkling.predict("no file.png")
    with pytest.raises(ClientError, match=r"^a drawing is an image file's path, .*; this is of type list$"):
        inkling.predict([[0, 255], [255, 0]])
    with pytest.raises(
        ClientError, match=r"^a drawing is an array of two axes, .* has 3; give several as a list of them$"
    ):
        inkling.predict(np.zeros((2, 28, 28)))
    for ask in (inkling.run, inkling.model, inkling.delete_alias, lambda name: next(inkling.watch(name))):
        with pytest.raises(ClientError, match=r"^the name of a run, model or alias is empty$"):
            ask("")


def test_a_spec_may_hold_numpys_numbers(inkling: Inkling) -> None:
    spec = inkling.dry_run(epochs=np.int64(3), optimizer={"type": "adam", "learning_rate": np.float32(0.5)}).spec
    assert (spec.epochs, spec.optimizer.learning_rate) == (3, 0.5)


def test_models_are_compared_reported_pinned_downloaded_and_deleted(inkling: Inkling, tmp_path: Path) -> None:
    model = inkling.wait(inkling.train(small_spec(epochs=1, name="to be deleted"))).model
    assert model is not None
    first = inkling.model()
    board = inkling.leaderboard()
    assert {entry.model for entry in board} == {model.id for model in inkling.models()} > {model}
    assert inkling.evaluate(model).accuracy == inkling.model(model).scores.accuracy
    assert inkling.evaluate().model == first.id

    pinned = inkling.pin(model)
    assert (pinned.id, pinned.aliases, pinned.pinned) == (model, ["default"], True)
    with pytest.raises(ServiceError, match="point the alias to another model first"):
        inkling.delete_model(model)
    assert inkling.pin(None).id == first.id

    inkling.download(model, tmp_path / "model.safetensors")
    spec, _ = from_bytes((tmp_path / "model.safetensors").read_bytes())
    assert spec.name == "to be deleted"
    inkling.delete_model(model)
    with pytest.raises(ServiceError, match="there is no model"):
        inkling.model(model)
    assert "quick" in {preset.name for preset in inkling.presets()}


def test_models_are_found_sorted_renamed_described_and_compared(inkling: Inkling, model: str) -> None:
    changed = inkling.change_model(model, name="Room 12", description="Reads crossed sevens.")
    assert (changed.name, changed.description) == ("Room 12", "Reads crossed sevens.")
    assert [found.id for found in inkling.models(name="room 12")] == [model]
    accuracies = [found.scores.accuracy for found in inkling.models(sort="accuracy", order="asc")]
    assert accuracies == sorted(accuracies)
    comparison = inkling.compare(model, "default")
    assert [found.id for found in comparison.models] == [model, inkling.model().id]
    assert "spec.batch_size" in {difference.field for difference in comparison.differences}


def test_aliases_name_models_and_a_candidate_is_tried(inkling: Inkling, model: str) -> None:
    alias = inkling.set_alias("room-12", model)
    assert (alias.name, alias.model) == ("room-12", model)
    assert alias in inkling.aliases()
    assert inkling.predict(SEVEN, model="room-12").model == model
    inkling.delete_alias("room-12")
    assert alias not in inkling.aliases()

    tried = inkling.try_candidate(model, shadow=True)
    assert (tried.model, tried.shadow, tried.share) == (model, True, 0.0)
    assert inkling.candidate().model == model
    assert inkling.try_candidate(None).model is None


def test_a_model_is_uploaded_from_a_file_or_bytes(inkling: Inkling, tmp_path: Path) -> None:
    path, content = tmp_path / "model.safetensors", file(name="another's")
    path.write_bytes(content)
    with pytest.raises(ServiceError) as refused:
        inkling.upload(content[:-4])
    assert refused.value.status == 422
    uploaded = inkling.upload(path, name="uploaded")
    assert (uploaded.name, uploaded.run) == ("uploaded", None)
    assert inkling.upload(content) == uploaded


def test_an_ended_run_is_deleted(inkling: Inkling, model: str) -> None:
    run = next(run for run in inkling.runs() if run.model == model)
    inkling.delete(run)
    with pytest.raises(ServiceError, match="there is no run"):
        inkling.run(run)
    assert inkling.model(model).id == model


def test_a_watched_run_goes_on_where_it_was_when_the_api_is_killed(service: Service, inkling: Inkling) -> None:
    run = inkling.train(LONG_SPEC)
    events = inkling.watch(run)
    epochs = (event.epoch for event in events if isinstance(event, EpochReport))
    assert list(islice(epochs, 2)) == [1, 2]
    service.kill("app.main")
    assert list(islice(epochs, 2)) == [3, 4]
    service.ready()
    inkling.cancel(run)
    assert list(events)[-1] == RunEnd(state="cancelled")


def test_a_key_opens_what_it_guards(tmp_path: Path) -> None:
    with serving(tmp_path, "api", INKLING_API_KEYS='{"ada": "5écret"}') as service:
        with Inkling(service.url) as stranger, pytest.raises(ServiceError, match="asks for a key") as refused:
            stranger.train(SMALL_SPEC)
        assert refused.value.status == 401
        with Inkling(service.url, key="5écret") as ada:
            assert ada.train(SMALL_SPEC).state == "queued"
            with pytest.raises(ServiceError, match="no model is ready yet") as early:
                ada.predict(SEVEN)
            assert (early.value.status, early.value.retry_after) == (503, 5.0)


@pytest.mark.parametrize("key", ["鍵", "5ecret\r", "5ecret ", "5ec\nret", "\x7f5ecret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ClientError, match=r"^the key has characters that no HTTP header can carry, such as a"):
        Inkling(key=key)
    with Inkling() as inkling, pytest.raises(ClientError, match=r"^the idempotency key has characters"):
        inkling.train(SMALL_SPEC, idempotency_key=key)


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(*answers: Answer) -> Iterator[str]:
    """The URL of a server that gives each answer once, in order; each then ends its connection."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left.pop(0)(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
    assert not left, "every answer was asked for"


def replying(status: int, media_type: str, body: str, last_event_id: str | None = None, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        assert request.headers["Last-Event-ID"] == last_event_id
        request.send_response(status)
        for name, value in {"Content-Type": media_type, **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body.encode())

    return answer


EPOCH = (
    'event: epoch\r\nid: {0}\r\ndata: {{"epoch": {0}, "loss": 0.1,\r\ndata: "accuracy": 0.9, "seconds": 1.0}}\r\n\r\n'
)


def test_a_stream_that_breaks_off_goes_on_behind_the_last_whole_event() -> None:
    cut = EPOCH.format(2)[:-4]
    novel = 'event: applause\ndata: {}\n\nevent: end\ndata: {"state": "failed", "error": "a\u2028b", "novel": [1]}\n\n'
    stream = "text/event-stream; charset=utf-8"
    with (
        answering(
            replying(200, stream, ": ping\n\n" + EPOCH.format(1) + cut),
            replying(503, "text/html", "starting", "1", **{"Retry-After": "0"}),
            replying(200, stream, "", "1"),
            replying(200, stream, EPOCH.format(2) + novel, "1"),
        ) as url,
        Inkling(url) as inkling,
    ):
        *epochs, end = inkling.watch("some")
    assert [epoch.epoch for epoch in epochs if isinstance(epoch, EpochReport)] == [1, 2]
    assert isinstance(end, RunEnd) and (end.state, end.error) == ("failed", "a\u2028b")


def test_a_service_that_has_answered_is_waited_for() -> None:
    def break_off(request: BaseHTTPRequestHandler) -> None: ...

    with (
        answering(
            replying(200, "application/json", '{"models": []}'),
            break_off,
            replying(200, "text/event-stream", 'event: end\ndata: {"state": "succeeded"}\n\n'),
        ) as url,
        Inkling(url) as inkling,
    ):
        inkling.leaderboard()
        assert list(inkling.watch("some")) == [RunEnd(state="succeeded")]


def test_a_service_that_stays_away_is_given_up() -> None:
    with (
        answering(replying(200, "text/event-stream", EPOCH.format(1))) as url,
        Inkling(url, patience_seconds=0.5) as inkling,
    ):
        events = inkling.watch("some")
        next(events)
        # the server has no further answer, and breaks every connection off
        with pytest.raises(UnreachableError, match=f"cannot reach {url}: "):
            next(events)


def test_whoever_watches_a_run_of_a_service_that_stays_away_hears_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = TrainSpec()
    run = Run(id="some", name=spec.name, state=RunState.RUNNING, created_at=datetime.now(UTC), spec=spec, history=[])
    with (
        answering(replying(200, "text/event-stream", EPOCH.format(1))) as url,
        Inkling(url, patience_seconds=0.5) as inkling,
        pytest.raises(typer.Exit),
    ):
        cli_remote._watch(inkling, run)
    assert re.search(
        f"cannot reach {url}: .*; run some goes on: `inkling watch some` shows it", capsys.readouterr().err
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "localhost:8000", "http://127.0.0.1:many"])
def test_an_address_where_nobody_answers_is_named_at_once(url: str) -> None:
    assert str(UnreachableError(url, TimeoutError())) == f"cannot reach {url}: TimeoutError"
    with pytest.raises(UnreachableError) as failed, Inkling(url) as inkling:
        inkling.model()
    assert str(failed.value).startswith(f"cannot reach {url}: ")
    assert ("an address begins with http://" in str(failed.value)) == url.startswith("localhost")
    if url.endswith(":9"):
        with pytest.raises(UnreachableError), Inkling(url) as inkling:
            next(inkling.watch("some"))


def test_what_is_no_inkling_is_told_from_one() -> None:
    with (
        answering(
            replying(200, "text/html", "<h1>It works!</h1>"),
            replying(200, "text/html", "<h1>It works!</h1>"),
            replying(502, "text/html", "<h1>Bad Gateway</h1>"),
        ) as url,
        Inkling(url) as inkling,
    ):
        with pytest.raises(UnknownAnswerError, match="is no ModelInfo here"):
            inkling.model()
        with pytest.raises(UnknownAnswerError, match="no event stream"):
            next(inkling.watch("some"))
        with pytest.raises(ServiceError, match="GET /models/default: the answer is 502 Bad Gateway") as refused:
            inkling.model()
    assert (refused.value.status, refused.value.errors, refused.value.retry_after) == (502, [], None)


def test_a_redirect_tells_where_the_service_is() -> None:
    with (
        answering(replying(308, "text/html", "", Location="https://box/models/default")) as url,
        Inkling(url) as inkling,
        pytest.raises(ServiceError, match=r"is 308 .*, to https://box/models/default; give"),
    ):
        inkling.model()


def test_fields_that_a_newer_service_adds_are_left_out() -> None:
    entry = '{"model": "m", "name": "n", "loss": 0.1, "accuracy": 0.9, "parameters": 1, "novel": 2}'
    body = f'{{"models": [{entry}], "novel": 1}}'
    with answering(replying(200, "application/json", body)) as url, Inkling(url) as inkling:
        (read,) = inkling.leaderboard()
    assert (read.model, read.accuracy) == ("m", 0.9)
