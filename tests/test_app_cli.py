"""The command line: it says what is wrong with its surroundings, trains, and talks to a service."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from app import cli
from app.client import Inkling
from app.settings import Settings
from model.checkpoint import from_bytes
from tests.drawings import draw, encoded
from tests.not_digits import scribbles
from tests.processes import LONG_SPEC, ROOT, SMALL_SPEC, SOON_SECONDS, Service, serving, wait_for

SEVEN = ROOT / "static" / "seven.png"


def start(*arguments: str, **settings: str) -> "subprocess.Popen[str]":
    command = (sys.executable, "-m", "app.cli", *arguments)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, text=True, **pipes)


def inkling(*arguments: str, stdin: bytes | None = None, **settings: str) -> "subprocess.CompletedProcess[str]":
    with start(*arguments, **settings) as process:
        assert process.stdin is not None
        process.stdin.buffer.write(stdin or b"")
        said, complained = process.communicate(timeout=180)
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


def said(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The same in this process: half a second less of processor time each."""
    result = CliRunner().invoke(cli.app, arguments, env=settings, catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def test_help_lists_the_commands() -> None:
    result = inkling("--help")
    assert result.returncode == 0
    for command in ("serve", "api", "worker", "backup", "restore", "train", "data", "predict", "evaluate", "models"):
        assert re.search(rf"^\W*{command} ", result.stdout, re.MULTILINE), command


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("app.cli", "jax sqlalchemy dbos"), ("app.worker", "jax"), ("app.trainer", "fastapi dbos httpx scipy.ndimage")],
)
def test_a_process_loads_nothing_heavy_that_it_does_not_need(module: str, heavy: str) -> None:
    command = [sys.executable, "-c", f"import sys, {module}; print({set(heavy.split())} & sys.modules.keys())"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INKLING_PORT", "many", "valid integer"),
        ("INKLING_PORT", "65536", "less than or equal to 65535"),
        ("INKLING_MAX_QUEUED_RUNS", "0", "greater than or equal to 1"),
        ("INKLING_LOG_LEVEL", "loud", "Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("INKLING_COORDINATOR", "host", "Input should be host:port"),
        ("INKLING_API_KEYS", '{"ada": ""}', "ada's key is empty"),
        ("INKLING_API_KEYS", '{"ada": 5}', "ada: Input should be a valid string"),
        ("INKLING_API_KEYS", "ada", """; write it as {"ada": "5ecret"}"""),
        ("INKLING_API_KEYS", '{"": "5ecret"}', "a user's name is empty"),
        ("INKLING_API_KEYS", '{"inkling": "5ecret"}', "choose another name"),
        ("INKLING_API_KEYS", '{"ada": "5ecret", "bob": "5ecret"}', "two users have the same key"),
        *(
            ("INKLING_API_KEYS", json.dumps({"ada": key}), "ada's key has characters that no HTTP header can carry")
            for key in ("5ecret\r", " 5ecret", "鍵")
        ),
        ("INKLING_PRIORITY_USERS", "ada", """; write it as ["teacher"]"""),
        ("INKLING_ALLOWED_ORIGINS", '["school.example"]', """is no origin; write it as ["https://school.example"]"""),
        ("INKLING_DATA_DIR", "~nobody123/inkling", "~nobody123 is no user's folder here"),
        *(
            ("INKLING_DATABASE_URL", url, "neither sqlite:///FILE nor postgresql://USER:PASSWORD@HOST/DATABASE")
            for url in ("sqlite:///:memory:", "postgres://inkling@host/inkling")
        ),
        ("INKLING_DATABASE_URL", "postgresql://inkling@host:port/inkling", "its port is no number"),
        ("INKLING_DATABASE_URL", "postgresql://inkling@host/", "names no database"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str, says: str) -> None:
    result = said("serve", **{name: value})
    assert result.returncode == 1
    assert result.stderr.startswith(f"{name}: ")
    assert says in result.stderr


def test_an_empty_setting_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INKLING_API_KEYS", "INKLING_PRIORITY_USERS", "INKLING_PORT"):
        monkeypatch.setenv(name, "")
    settings = Settings()
    assert (settings.api_keys, settings.priority_users, settings.port) == ({}, [], 8000)


def test_a_priority_user_without_a_key_is_named() -> None:
    keys, users = {"ada": "5ecret"}, ["ada", "techer"]
    with pytest.raises(ValidationError, match=r"'techer' has no key in INKLING_API_KEYS"):
        Settings(api_keys=keys, priority_users=users)
    assert Settings(api_keys={}, priority_users=["192.0.2.7"]).priority_users == ["192.0.2.7"]


@pytest.mark.parametrize("command", ["serve", "api", "worker"])
def test_a_misspelled_setting_is_told_of(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # so that it ends
    result = inkling(command, INKLING_API_KEY="5ecret", INKLING_DATA_DIR=str(tmp_path / "file"))
    assert "WARNING INKLING_API_KEY is no setting, and is ignored; is INKLING_API_KEYS meant?\n" in result.stderr
    assert "INKLING_DATA_DIR is" not in result.stderr


def test_more_workers_than_the_gpus_are_enough_for_are_refused(tmp_path: Path) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-8932f937)'\n")
    driver.chmod(0o755)
    (tmp_path / "jax_plugins" / "xla_cuda12").mkdir(parents=True)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = inkling("serve", JAX_PLATFORMS="", PATH=str(tmp_path), PYTHONPATH=path, INKLING_WORKERS="2")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "INKLING_WORKERS: the GPUs here are enough for 1, not 2" in result.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = inkling("serve", INKLING_PORT=str(port), INKLING_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = inkling("serve", INKLING_DATA_DIR=str(tmp_path / "file" / "data"))
    assert result.returncode == 1
    assert f"INKLING_DATA_DIR: cannot write to {tmp_path}/file/data: Not a directory" in result.stderr


def test_an_api_whose_database_is_away_says_so_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    settings = {"INKLING_DATA_DIR": str(tmp_path), "INKLING_DATABASE_URL": "postgresql://inkling@127.0.0.1:9/inkling"}
    with start("api", INKLING_PORT="0", **settings) as process:
        assert process.stderr is not None
        complaint = next(line for line in process.stderr if "WARNING" in line)
        process.send_signal(signal.SIGINT)
        assert "it is killed" not in process.stderr.read()
    assert "the database does not answer, trying again" in complaint
    assert process.returncode == 0


def test_a_database_of_a_newer_version_is_told_of_in_one_line_by_each_process(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "inkling.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    with start("serve", INKLING_DATA_DIR=str(tmp_path), INKLING_PORT="0") as process:
        assert process.stderr is not None
        told = ""
        while not all(f"WARNING {name} ended with status" in told for name in ("api", "worker 0")):
            told += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    for name in ("api", "worker"):
        assert f"{name} ERROR a newer version has changed this database" in told
    assert "Traceback" not in told


def test_data_fetches_mnist_into_the_cache(cache_dir: Path) -> None:
    result = inkling("data", INKLING_CACHE_DIR=str(cache_dir))
    assert result.stdout == "60,000 training and 10,000 test images\n"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            '{"epochs": 0, "network": [{"type": "dense", "units": 0}]}',
            "epochs: Input should be greater than or equal to 1",
        ),
        ('{"epochs": 0, "network": [{"type": "dense", "units": 0}]}', "network.0.units: Input should be greater"),
        ('{"epochs": 1', "not a JSON object"),
        ("[]", "not a JSON object"),
        (None, "No such file or directory"),
    ],
)
def test_a_spec_that_cannot_be_trained_is_refused_by_its_path(tmp_path: Path, spec: str | None, says: str) -> None:
    path = tmp_path / "spec.json"
    if spec is not None:
        path.write_text(spec)
    result = said("train", str(path), "--output", str(tmp_path / "model"))
    assert result.returncode == 1
    assert says in result.stderr
    assert not (tmp_path / "model").exists()


def test_an_output_without_a_folder_is_refused_before_the_training(tmp_path: Path) -> None:
    for option in ("--output", "--checkpoint"):
        result = said("train", option, str(tmp_path / "none" / "file"))
        assert (result.returncode, result.stderr) == (1, f"{option}: there is no folder {tmp_path}/none\n")


def test_an_output_that_cannot_be_written_is_refused_before_the_training_though_none_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    result = said("train", "--preset", "tiny")
    refused = "--output: model.safetensors cannot be written; give a file in a folder that can be\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", refused)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    result = said("train", "--preset", "huge")
    assert result.returncode == 1
    assert "preset: Input should be 'tutorial', 'quick', 'convnet', 'accurate' or 'tiny'" in result.stderr


def on(service: Service, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return said(*arguments, INKLING_URL=service.url)


def table(result: "subprocess.CompletedProcess[str]", above: int = 1) -> list[list[str]]:
    """The cells of a printed table's rows, without the lines above them."""
    assert (result.returncode, result.stderr) == (0, "")
    return [re.split(r"\s{2,}", row.strip()) for row in result.stdout.splitlines()[above:]]


def lines(result: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """What --json prints."""
    assert (result.returncode, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_predict_names_the_digit_of_each_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "four.png").write_bytes(encoded(draw(4)))
    result = on(service, "predict", str(SEVEN), str(tmp_path / "four.png"))
    assert (result.returncode, result.stderr) == (0, "")
    sure = r"(> )?\d\d\.\d%"  # never 100.0
    assert re.fullmatch(rf"{SEVEN}: 7  {sure}\n{tmp_path}/four\.png: 4  {sure}\n", result.stdout)


def test_predict_reads_stdin_and_prints_json(service: Service) -> None:
    result = inkling("predict", "-", "--json", stdin=SEVEN.read_bytes(), INKLING_URL=service.url)
    answer = json.loads(result.stdout)
    assert (answer["file"], answer["digit"], len(answer["probabilities"])) == ("-", 7, 10)
    assert answer["model"] == service.get("/readyz")["model"]


def test_predict_says_where_it_sees_no_digit(service: Service, tmp_path: Path) -> None:
    files = [str(SEVEN)]
    for index, canvas in enumerate(scribbles(5, np.random.default_rng(0))):
        Image.fromarray(canvas).save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    looks = [answer["is_digit"] for answer in lines(on(service, "predict", *files, "--json"))]
    assert looks[0] and not all(looks)
    said = on(service, "predict", *files).stdout.splitlines()
    assert [line.endswith("  not a digit?") for line in said] == [not looks_so for looks_so in looks]


def test_predict_names_every_file_that_is_none_and_answers_the_others(service: Service, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    result = on(service, "predict", str(tmp_path / "none.png"), str(tmp_path / "text.png"), str(SEVEN))
    assert result.returncode == 1
    assert result.stdout.startswith(f"{SEVEN}: 7  ")
    missing, unread = result.stderr.splitlines()
    assert missing == f"{tmp_path}/none.png: No such file or directory"
    assert unread.startswith(f"{tmp_path}/text.png: ") and len(unread) > len(f"{tmp_path}/text.png: ")


def test_a_model_that_is_not_there_is_no_files_fault(service: Service) -> None:
    for name in ("none", "no name", "../x"):
        result = said("predict", str(SEVEN), str(SEVEN), "--model", name, INKLING_URL=service.url)
        assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
        assert not result.stderr.startswith(str(SEVEN))


def test_evaluate_shows_the_leaderboard_or_a_report(service: Service) -> None:
    board = table(on(service, "evaluate"))
    entries = service.get("/evaluate")["models"]
    assert [row[:2] for row in board] == [[str(place), entry["model"]] for place, entry in enumerate(entries, 1)]
    assert lines(on(service, "evaluate", "--json")) == entries

    report = on(service, "evaluate", "default")
    expected = service.get("/evaluate/default")
    assert report.stdout.startswith(f"{expected['model']}: accuracy {expected['accuracy']:.2%}, loss ")
    rows = table(report, above=2)
    assert [(row[0], row[4]) for row in rows] == [
        (str(item["digit"]), f"{item['support']:,}") for item in expected["per_class"]
    ]


def test_runs_and_models_are_listed_newest_first_whatever_they_are_called(service: Service) -> None:
    name = "[/bold] \N{DEVANAGARI DIGIT SEVEN} \x9b2J"
    run = service.ended(service.train(**{**SMALL_SPEC, "name": name}))
    first = table(on(service, "runs", "--limit", "1"))
    assert [first[0][index] for index in (0, 1, 2, -1)] == [
        run["id"],
        name.replace("\x9b", "?"),
        "succeeded",
        run["model"],
    ]
    assert len(first) == 1
    rows = table(on(service, "models"))
    assert rows[0][:2] == [run["model"], name.replace("\x9b", "?")]
    assert [row[0] for row in rows if row[-1] == "default"] == [service.get("/readyz")["model"]]
    assert lines(on(service, "models", "--json")) == service.get("/models")["models"]
    assert lines(on(service, "runs", "--limit", "1", "--json")) == service.get("/train?limit=1")["runs"]
    assert lines(on(service, "runs", "--state", "queued", "--state", "failed", "--json")) == []
    assert lines(on(service, "runs", "--user", "ada", "--json")) == []  # there are no keys


def test_models_are_found_by_name_and_sorted_best_first(service: Service) -> None:
    by_accuracy = [
        model["scores"]["accuracy"] for model in lines(on(service, "models", "--sort", "accuracy", "--json"))
    ]
    assert by_accuracy == sorted(by_accuracy, reverse=True)
    by_loss = [model["scores"]["loss"] for model in lines(on(service, "models", "--sort", "loss", "--json"))]
    assert by_loss == sorted(by_loss)
    assert lines(on(service, "models", "--name", "no model's name", "--json")) == []


def test_train_on_a_service_shows_each_epoch_and_brings_the_model(service: Service, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(SMALL_SPEC))
    output = tmp_path / "model.safetensors"
    result = inkling("train", str(tmp_path / "spec.json"), "--url", service.url, "--output", str(output))
    assert result.returncode == 0, result.stderr
    assert re.search(r"^epoch 1: loss \d\.\d{4}  accuracy \d+\.\d\d%  \d+\.\d s$", result.stderr, re.MULTILINE)
    model = re.fullmatch(r"model (\w+): \d+\.\d\d% of MNIST's 10,000 test images named right\n", result.stdout)
    assert model is not None
    assert output.read_bytes() == service.http.get(f"/models/{model[1]}/download").content


def test_train_on_a_service_says_what_it_refuses(service: Service, tmp_path: Path) -> None:
    result = on(service, "train", "--remote", "--preset", "huge")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("body.preset: Input should be 'tutorial', 'quick'")
    for option, given in (("--checkpoint", str(tmp_path / "file")), ("--checkpoint-seconds", "0")):
        result = said("train", "--remote", option, given, INKLING_URL=service.url)
        assert (result.returncode, result.stderr) == (1, f"{option}: a service keeps its own\n")


def test_a_watched_run_is_left_alone_by_ctrl_c_and_ended_by_cancel(service: Service) -> None:
    run = service.train(**LONG_SPEC)
    watching = start("watch", run, INKLING_URL=service.url)
    assert watching.stderr is not None
    assert watching.stderr.readline().startswith("epoch 1: loss ")
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert said.splitlines()[-1] == f"run {run} goes on: `inkling watch {run}` shows it, `inkling cancel {run}` ends it"
    assert "Traceback" not in said
    assert service.get(f"/train/{run}")["state"] == "running"

    result = on(service, "cancel", run)
    assert (result.returncode, result.stdout) == (0, f"{run}: cancelled\n")
    result = on(service, "watch", run)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, f"run {run} cancelled")


def test_a_command_finds_the_service_of_the_same_settings(service: Service) -> None:
    port = service.url.rpartition(":")[2]
    result = inkling("predict", str(SEVEN), INKLING_HOST="0.0.0.0", INKLING_PORT=port)
    assert result.stdout.startswith(f"{SEVEN}: 7")
    result = inkling("predict", str(SEVEN), INKLING_PORT="0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("INKLING_PORT is 0, ")


@pytest.mark.parametrize("arguments", [("predict", str(SEVEN)), ("evaluate",), ("models",), ("runs",), ("watch", "a")])
def test_a_service_that_is_not_there_is_named_in_one_line(arguments: tuple[str, ...]) -> None:
    result = said(*arguments, "--url", "http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "cannot reach http://127.0.0.1:9: [Errno 111] Connection refused\n"


def test_a_key_is_asked_for_by_its_variables_name(tmp_path: Path) -> None:
    with serving(tmp_path, "api", INKLING_API_KEYS='{"ada": "5ecret", "bob": "m0re secret"}') as service:
        result = on(service, "cancel", "first-0")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.endswith("; a command sends the key in INKLING_KEY\n")
        result = inkling("train", "--remote", "--preset", "quick", INKLING_URL=service.url, INKLING_KEY="wrong")
        assert (result.returncode, result.stdout) == (1, "")
        with Inkling(service.url, key="m0re secret") as bob:
            run = bob.train()
        result = inkling("cancel", run.id, INKLING_URL=service.url, INKLING_KEY="5ecret")
        assert (result.returncode, result.stderr.partition(";")[0]) == (1, "this run is another user's")


def test_train_without_a_service_writes_a_file(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({**SMALL_SPEC, "name": "[/b]"}))
    output = tmp_path / "model.safetensors"
    # a service that is known is not asked
    result = inkling("train", str(tmp_path / "spec.json"), "--output", str(output), INKLING_URL="http://127.0.0.1:9")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^epoch 1: loss ", result.stderr, re.MULTILINE)
    assert re.fullmatch(rf"{output}: \d\d\.\d\d% of MNIST's 10,000 test images named right\n", result.stdout)
    spec, _ = from_bytes(output.read_bytes())
    assert spec.name == "[/b]"


def test_ctrl_c_ends_a_training_at_once_while_xla_compiles(tmp_path: Path) -> None:
    (tmp_path / "mnist").symlink_to(Settings().cache_dir / "mnist")
    output = tmp_path / "model.safetensors"
    training = start("train", "--preset", "tiny", "--output", str(output), INKLING_CACHE_DIR=str(tmp_path))
    wait_for(lambda: any(tmp_path.glob("compiled/*-cache")))
    time.sleep(2.0)  # what is compiled next, the training itself, takes several times as long
    training.send_signal(signal.SIGINT)
    _, complained = training.communicate(timeout=SOON_SECONDS)
    assert training.returncode == 130  # not that of a crash
    assert "Traceback" not in complained
    assert not output.exists()


def test_a_training_that_diverges_at_once_writes_no_file_and_says_so(tmp_path: Path) -> None:
    network = [{"type": "flatten"}, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    spec = {"network": network, "loss": "mean_squared_error", "optimizer": {"type": "sgd", "learning_rate": 10}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    output = tmp_path / "model.safetensors"
    result = said("train", str(tmp_path / "spec.json"), "--output", str(output))
    assert result.returncode == 1
    assert re.search(r"the loss became \w+ in epoch 1, at step \d+; .*; there is nothing to keep\n$", result.stderr)
    assert not output.exists()
