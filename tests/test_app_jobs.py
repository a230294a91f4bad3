"""The API's side of the queue where its database comes and goes, and what is left of a run that was deleted."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.checkpoints import Checkpoints
from app.database import Database
from app.errors import KeyTakenError, UnreadableRunError
from app.heartbeats import Heartbeats
from app.jobs import Jobs, run_id_of
from app.outlooks import OUTLOOK_SECONDS
from app.registry import Registry
from app.routes.train import _watch
from app.run_queue import SNAPSHOT, STREAM, add_event, empty_snapshot
from app.scheduling import Priority
from app.schemas import RunState
from app.settings import NOBODY, Settings
from model.checkpoint import to_bytes
from model.reports import EpochReport
from model.spec import TrainSpec
from tests.models import FIRST_RUN, FirstModel
from tests.problems import problem
from tests.processes import SMALL_SPEC, serving
from tests.published import PARAMETERS, SPEC, evaluation

AWAY = sa.exc.OperationalError("SELECT", {}, Exception("the server closed the connection"))


class Interrupted(Jobs):
    """Loses its database while it queues a run, once, and whenever it reads a stream."""

    broken = True

    def _enqueue(self, spec: TrainSpec, user: str, priority: Priority, run: str) -> None:
        if self.broken:
            self.broken = False
            raise AWAY
        super()._enqueue(spec, user, priority, run)

    async def _read_stream(self, run: str, offset: int) -> AsyncIterator[Any]:
        raise AWAY
        yield


@pytest.fixture
def jobs(database: Database, database_url: str) -> Iterator[Interrupted]:
    jobs = Interrupted(database, Registry(database), Settings(database_url=database_url))
    yield jobs
    jobs.close()


@pytest.fixture
def other(database: Database, database_url: str) -> Iterator[Jobs]:
    """Another process'."""
    with closing(Jobs(database, Registry(database), Settings(database_url=database_url))) as other:
        yield other


@pytest.fixture
def queue(other: Jobs) -> Any:
    """The queue's own database, for what only a worker writes."""
    return other._queue


def test_the_first_run_is_queued_though_the_database_was_away(jobs: Interrupted) -> None:
    async def start() -> None:
        await jobs.enqueue_first(SPEC)
        await jobs.enqueue_first(SPEC)
        assert [run.id for run in (await jobs.runs(limit=10, offset=0)).runs] == ["first-0"]

    asyncio.run(start())


def test_a_training_takes_as_long_as_on_what_the_workers_train_on(jobs: Interrupted, database: Database) -> None:
    nobody = jobs.expected_seconds(SPEC)
    heartbeats = Heartbeats(database)
    heartbeats.join("host/0", "host", 0, "CPU")
    assert jobs.expected_seconds(SPEC) == nobody
    heartbeats.join("host/1", "host", 1, "NVIDIA H100 80GB HBM3")
    assert jobs.expected_seconds(SPEC) < nobody


def test_a_first_run_that_was_deleted_leaves_its_name_to_no_other_that_is_there(other: Jobs) -> None:
    async def start() -> None:
        for _ in range(2):
            await other.enqueue_first(SPEC)
            await other.cancel(next(run.id for run in (await other.runs(limit=1, offset=0)).runs))
        await other.delete("first-0")
        await other.enqueue_first(SPEC)
        runs = (await other.runs(limit=10, offset=0)).runs
        assert {run.id: run.state for run in runs} == {"first-0": RunState.QUEUED, "first-1": RunState.CANCELLED}

    asyncio.run(start())


def test_a_run_is_queued_over_the_last_connection_that_is_free(other: Jobs, database: Database) -> None:
    pool: Any = database._engine.pool
    with ExitStack() as others:
        for _ in range(pool.size() + pool._max_overflow - 1):
            others.enter_context(database.reading())
        other._enqueue(SPEC, NOBODY, "normal", "run")
    assert other.counts()["queued"] == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_server_that_vanishes_is_given_up(database_url: str) -> None:
    url = f"{database_url}?tcp_user_timeout=9000"
    with closing(Database(url)) as database:
        database.migrate()
        with closing(Jobs(database, Registry(database), Settings(database_url=url))) as jobs:
            for connection in (database.reading(), jobs._queue.engine.connect()):
                with connection:
                    parameters = connection.connection.driver_connection.info.get_parameters()
                assert (parameters["keepalives_idle"], parameters["connect_timeout"]) == ("10", "10")
                assert parameters["tcp_user_timeout"] == "9000"  # as its URL says


@pytest.mark.parametrize("diverged", [False, True])
def test_a_deleted_runs_id_is_not_given_again_where_its_model_stays(
    other: Jobs, queue: Any, database: Database, checkpoints: Checkpoints, diverged: bool
) -> None:
    async def send_again() -> None:
        run = (await other.enqueue(SPEC, run=run_id_of("ada", "key"))).id
        data, attempt = to_bytes(PARAMETERS, SPEC), checkpoints.begin(run)
        Registry(database).publish(run, SPEC, data, evaluation(0.5), None, attempt=attempt, diverged=diverged)
        with queue.engine.begin() as connection:
            connection.execute(queue.tables.workflow_status.update().values(status="ERROR"))
        await other.delete(run)
        with pytest.raises(KeyTakenError, match=f"run {run}, .* deleted"):
            await other.enqueue(SPEC, run=run)

    asyncio.run(send_again())


def test_a_run_that_another_process_queued_has_its_place_at_once(jobs: Interrupted, other: Jobs) -> None:
    async def look() -> None:
        assert (await jobs.runs(limit=10, offset=0)).runs == []
        queued = [(await other.enqueue(SPEC)).id for _ in range(3)]
        assert [(await jobs.run(run)).queue_position for run in queued[:2]] == [1, 2]
        assert {run.id: run.queue_position for run in (await jobs.runs(limit=10, offset=0)).runs} == {
            run: number for number, run in enumerate(queued, 1)
        }

    asyncio.run(look())


def test_runs_of_one_second_are_listed_newest_first_whatever_their_ids(other: Jobs) -> None:
    async def look() -> None:
        newest_first = [(await other.enqueue(SPEC, run=run_id_of("ada", str(key)))).id for key in range(8)][::-1]
        assert [run.id for run in (await other.runs(limit=10, offset=0)).runs] == newest_first
        pages = [await other.runs(limit=3, offset=offset) for offset in (0, 3, 6)]
        assert [run.id for page in pages for run in page.runs] == newest_first

    asyncio.run(look())


def test_a_run_that_has_been_started_has_no_place_in_the_queue(jobs: Interrupted, other: Jobs, queue: Any) -> None:
    async def look() -> None:
        run = (await other.enqueue(SPEC)).id
        assert (await jobs.run(run)).queue_position == 1
        with queue.engine.begin() as connection:
            connection.execute(queue.tables.workflow_status.update().values(status="PENDING"))
        started = await jobs.run(run)
        assert (started.state, started.queue_position, started.starts_in_seconds) == (RunState.RUNNING, None, None)

    asyncio.run(look())


def test_a_look_at_a_cancelled_run_does_not_wait_for_a_database_that_is_away(jobs: Interrupted, other: Jobs) -> None:
    async def look() -> None:
        await jobs.enqueue_first(SPEC)
        await other.cancel("first-0")
        with pytest.raises(sa.exc.OperationalError):
            await jobs.run("first-0")

    asyncio.run(look())


def test_a_cancelled_run_leaves_no_checkpoint(other: Jobs, checkpoints: Checkpoints) -> None:
    async def cancel() -> None:
        run = (await other.enqueue(SPEC)).id
        checkpoints.save(run, checkpoints.begin(run), b"left")
        await other.cancel(run)

    asyncio.run(cancel())
    assert checkpoints.runs() == []


def test_a_run_of_another_version_says_so_and_hides_no_other(
    other: Jobs, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def look() -> None:
        old, new = [(await other.enqueue(SPEC)).id for _ in range(2)]
        inputs = queue.tables.workflow_input
        stored = json.dumps({"positionalArgs": [{"epochs": 0}], "namedArgs": {}})
        with queue.engine.begin() as connection:
            connection.execute(inputs.update().where(inputs.c.workflow_uuid == old).values(inputs=stored))
        for _ in range(2):
            assert [run.id for run in (await other.runs(limit=10, offset=0)).runs] == [new]
        assert [record.getMessage().split()[1] for record in caplog.records] == [old]
        with pytest.raises(UnreadableRunError, match=f"{old} .*: epochs: Input should be greater than or equal to 1"):
            await other.run(old)

    asyncio.run(look())


def test_of_a_run_that_waits_nothing_is_read_until_it_starts(
    other: Jobs, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = queue.read_stream_values
    monkeypatch.setattr(queue, "read_stream_values", lambda *place: reads.append(place[2]) or read(*place))

    async def watch() -> None:
        run = (await other.enqueue(SPEC)).id
        async with aclosing(other.feeds.follow(run)) as following:
            first = asyncio.create_task(anext(following))
            await asyncio.sleep(4 * OUTLOOK_SECONDS)
            assert reads == [0]
            events, statuses = queue.tables.streams, queue.tables.workflow_status
            with queue.engine.begin() as connection:
                event = {"offset": 0, "value": json.dumps({"kind": "epoch", "data": report(1)})}
                connection.execute(events.insert(), {"workflow_uuid": run, "key": STREAM, "function_id": 1, **event})
                connection.execute(statuses.update().values(status="PENDING"))
            assert [message.split(b"\n")[0] for message in await first] == [b"event: epoch"]
            await other.cancel(run)
            assert [message async for messages in following for message in messages] == []

    asyncio.run(watch())


def test_a_stream_of_a_run_that_is_deleted_meanwhile_breaks_off(other: Jobs) -> None:
    async def look() -> None:
        run = await other.enqueue(SPEC)
        await other.cancel(run.id)
        await other.delete(run.id)
        assert [message async for message in _watch(other, run, 0)] == []

    asyncio.run(look())


@pytest.mark.parametrize("status", ["CANCELLED", "ERROR"])
def test_of_a_run_that_was_cut_short_only_what_its_snapshot_lacks_is_read_again(
    other: Jobs, queue: Any, status: str
) -> None:
    async def look() -> None:
        run = (await other.enqueue(SPEC)).id
        await other.cancel(run)
        snapshot = {"events": 2, "started_at": None, "worker": None, "progress": None, "history": [report(1)]}
        with queue.engine.begin() as connection:
            saved = {"workflow_uuid": run, "key": SNAPSHOT, "value": json.dumps(snapshot)}
            connection.execute(queue.tables.workflow_events.insert(), saved)
            values = ["not read", "nor this", *(json.dumps({"kind": "epoch", "data": report(n)}) for n in (2, 3))]
            row = {"workflow_uuid": run, "key": STREAM, "function_id": 1, "serialization": "portable_json"}
            connection.execute(
                queue.tables.streams.insert(), [{**row, "offset": n, "value": value} for n, value in enumerate(values)]
            )
            connection.execute(queue.tables.workflow_status.update().values(status=status))
        assert [epoch.epoch for epoch in (await other.run(run)).history] == [1, 2, 3]

    asyncio.run(look())


def test_a_training_that_is_taken_up_again_reports_anew_what_lies_beyond_where_it_stands() -> None:
    snapshot = empty_snapshot()
    for epoch in (1, 2, 3):
        add_event(snapshot, "epoch", report(epoch))
    begun_again = {"step": 250, "steps": 400, "epochs": 4}
    add_event(snapshot, "progress", begun_again)
    assert [epoch["epoch"] for epoch in snapshot["history"]] == [1, 2]
    add_event(snapshot, "epoch", report(1, loss=0.2))
    assert snapshot == {
        **empty_snapshot(),
        "events": 5,
        "progress": begun_again,
        "history": [report(1, loss=0.2), report(2)],
    }


def report(epoch: int, loss: float = 0.1) -> dict[str, Any]:
    return EpochReport(epoch=epoch, loss=loss, accuracy=0.9, seconds=1.0).model_dump(mode="json")


def test_nothing_but_its_model_is_left_of_a_run_that_was_deleted(tmp_path: Path, with_model: FirstModel) -> None:
    queue = with_model(tmp_path) / "queue.db"
    assert len(tables_with(queue, FIRST_RUN)) > 2
    with serving(tmp_path, "api") as service, closing(Database(f"sqlite:///{tmp_path / 'inkling.db'}")) as database:
        checkpoints = Checkpoints(database)
        checkpoints.save(FIRST_RUN, checkpoints.begin(FIRST_RUN), b"left")
        assert service.http.delete(f"/train/{FIRST_RUN}").status_code == 204
        assert service.get("/models/default")["run"] == FIRST_RUN
        problem(service.http.get(f"/train/{FIRST_RUN}"), 404)
        assert service.get("/train")["runs"] == []
        assert checkpoints.runs() == []
    assert tables_with(queue, FIRST_RUN) == []


def tables_with(queue: Path, run: str) -> list[str]:
    """The queue's tables that know of the run."""
    with closing(sqlite3.connect(queue)) as connection:
        keyed = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE c.name = 'workflow_uuid'"
        names = [name for (name,) in connection.execute(f"{keyed} AND m.type = 'table'")]
        known = "SELECT count(*) FROM {} WHERE workflow_uuid = ?"
        return [name for name in names if connection.execute(known.format(name), (run,)).fetchone()[0]]


@pytest.mark.parametrize(("diverged", "state"), [(False, "succeeded"), (True, "failed")])
def test_a_run_that_has_published_its_model_says_how_it_ends_when_it_is_cancelled(
    tmp_path: Path, with_model: FirstModel, diverged: bool, state: str
) -> None:
    with (
        serving(with_model(tmp_path), "api") as service,
        closing(Database(f"sqlite:///{tmp_path / 'inkling.db'}")) as database,
    ):
        run = service.train(**SMALL_SPEC)
        attempt = Checkpoints(database).begin(run)
        data = to_bytes(PARAMETERS, SPEC)
        Registry(database).publish(run, SPEC, data, evaluation(0.5), None, attempt=attempt, diverged=diverged)
        assert f"has ended ({state})" in problem(service.http.post(f"/train/{run}/cancel"), 409)
