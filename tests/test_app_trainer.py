"""What a training in a child process comes to, whatever the database: equal files, divergence, a violent end."""

import json
import os
import signal
import subprocess
import sys

from app.worker import TRAINER
from tests.postgresql import Postgresql
from tests.processes import LONG_SPEC, ROOT, SMALL_SPEC, SOON_SECONDS, Service, send, wait_for


def test_equal_specs_give_equal_files(service: Service) -> None:
    one, other = (service.ended(service.train(**SMALL_SPEC))["model"] for _ in range(2))
    files = [service.http.get(f"/models/{model}/download").content for model in (one, other)]
    assert one != other
    assert files[0] == files[1]


def test_a_training_that_diverges_fails_and_says_where(service: Service) -> None:
    network = [{"type": "flatten"}, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    optimizer = {"type": "sgd", "learning_rate": 10}
    run = service.ended(service.train(network=network, loss="mean_squared_error", optimizer=optimizer))
    assert (run["state"], run["model"]) == ("failed", None)
    assert "in epoch 1, at step" in run["error"]


def test_a_training_that_diverges_late_publishes_the_last_parameters_that_were_finite(service: Service) -> None:
    rising = {"type": "one_cycle", "max_learning_rate": 3, "div_factor": 1e6, "pct_start": 0.9}
    network = [{"type": "flatten"}, *[{"type": "dense", "units": 64}] * 2, {"type": "dense", "units": 10}]
    optimizer = {"type": "sgd", "learning_rate": rising}
    run = service.ended(
        service.train(network=network, loss="mean_squared_error", optimizer=optimizer, batch_size=10, epochs=3)
    )
    assert run["state"] == "failed"
    assert "at step" in run["error"]
    model = service.get(f"/models/{run['model']}")
    assert (model["run"], model["aliases"]) == (run["id"], [])
    assert model["scores"]["accuracy"] > 0.5
    again = service.http.post(f"/train/{run['id']}/cancel")
    assert (again.status_code, "ended (failed)" in again.json()["detail"]) == (409, True), again.json()


def test_a_trainer_says_what_has_failed_though_nobody_expected_it(postgresql: Postgresql) -> None:
    settings = {"INKLING_DATABASE_URL": postgresql.new_database()}  # without a table
    with subprocess.Popen(
        TRAINER,
        cwd=ROOT,
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # its end is that of its process group
    ) as trainer:
        assert trainer.stdin is not None and trainer.stdout is not None
        trainer.stdin.write(json.dumps({"run": "run", "attempt": 1, "spec": SMALL_SPEC}).encode() + b"\n")
        trainer.stdin.flush()  # and it stays open: it is the lifeline
        process, end = (json.loads(trainer.stdout.readline()) for _ in range(2))
    assert process["kind"] == "process"
    assert (end["kind"], end["data"]["state"]) == ("end", "failed")
    assert 'ProgrammingError: (psycopg.errors.UndefinedTable) relation "models" does not exist' in end["data"]["error"]


LISTENING = """
import sys, time
from app.lifeline import end_with_parent
end_with_parent()
print("listens", flush=True)
time.sleep(0.5)
print(sys.stdin.readline(), end="", flush=True)
time.sleep(600)
"""


def test_a_fork_that_listens_for_its_workers_end_leaves_the_next_run_to_the_process_that_waits() -> None:
    with subprocess.Popen(
        (sys.executable, "-c", LISTENING),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "listens\n"
        child.stdin.write("the next run\n")
        child.stdin.flush()
        assert child.stdout.readline() == "the next run\n"
        child.stdin.close()
        assert child.wait(SOON_SECONDS) == -signal.SIGKILL  # with its process group


def test_a_trainer_that_is_killed_fails_its_run_and_nothing_else(service: Service) -> None:
    run = service.train(**LONG_SPEC)
    wait_for(lambda: bool(service.trainers()))
    send(service.trainers(), signal.SIGKILL)
    ended = service.ended(run)
    assert ended["state"] == "failed"
    assert "ended by signal SIGKILL" in ended["error"]
    assert service.ended(service.train(**SMALL_SPEC))["state"] == "succeeded"


def test_a_model_has_the_validation_scores_of_its_last_epoch(service: Service) -> None:
    run = service.ended(service.train(**{**SMALL_SPEC, "epochs": 2, "validation_split": 0.1}))
    scores, last = service.get(f"/models/{run['model']}")["scores"], run["history"][-1]
    assert last["validation_accuracy"] is not None
    for name in ("validation_loss", "validation_accuracy"):
        assert scores[name] == last[name]
