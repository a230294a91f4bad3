"""python -m app.trainer: trains run after run, each in a fork of this process, which has loaded what they all need.

It reads a run from standard input, as one line of JSON, {"run", "attempt", "spec"}, and writes one JSON message a line
to standard output: {"kind": "process" | "progress" | "epoch" | "end", "data": {...}}. The fork owns the device and
publishes the model. It ends when standard input closes; at SIGTERM, after one more checkpoint. Where it ends without
an "end", this process ends in the same way.
"""

import gc

if __name__ == "__main__":  # to look through what is imported for cycles, again and again, is a sixth of a start
    gc.disable()

import contextlib
import json
import logging
import os
import signal
import sys
from typing import TextIO

from pydantic import BaseModel

from app import logs
from app.attempt import Attempt, Send
from app.database import Database
from app.errors import SupersededError
from app.lifeline import (
    FORKS,
    STOPPED,
    SUPERSEDED,
    TRAINED,
    end_with_parent,
    offer_to_the_memory_killer,
    take_stdout,
)
from app.schemas import RunEnd, RunState
from app.settings import Settings
from model.compilation import configure_jax
from model.spec import TrainSpec

_log = logging.getLogger(__name__)


class Job(BaseModel):
    """What there is to train."""

    run: str
    attempt: int
    spec: TrainSpec


class Process(BaseModel):
    """The one that trains."""

    id: int


def main() -> None:
    send = _sender(take_stdout())
    settings = Settings()
    logs.configure("trainer", settings)
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        if trainer := os.fork() if FORKS else 0:
            _wait_for(trainer)
        else:
            gc.enable()
            os._exit(_train(Job.model_validate_json(line), settings, send))


def _sender(messages: TextIO) -> Send:
    def send(kind: str, data: BaseModel) -> None:
        messages.write(json.dumps({"kind": kind, "data": data.model_dump(mode="json")}) + "\n")

    return send


def _train(job: Job, settings: Settings, send: Send) -> int:
    """The exit status. Nothing of JAX may have run before: its threads do not survive a fork."""
    offer_to_the_memory_killer()
    end_with_parent(with_group=True)
    send("process", Process(id=os.getpid()))
    configure_jax(settings.cache_dir)
    try:
        end = Attempt(job.run, job.attempt, job.spec, Database(settings.database), settings, send).run()
    except SupersededError as error:
        _log.warning("%s", error)
        return SUPERSEDED
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked for the run is told
        _log.exception("the training failed")
        reason = str(error).partition("\n")[0]
        end = RunEnd(state=RunState.FAILED, error=f"{type(error).__name__}: {reason}")
    if end is None:
        return STOPPED
    send("end", end)
    return TRAINED


def _wait_for(trainer: int) -> None:
    """Until it has ended; ends this process in the same way, unless its run has an end."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(trainer, signal.SIGTERM))
    status = os.waitstatus_to_exitcode(os.waitpid(trainer, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    elif status != TRAINED:
        sys.exit(status)


if __name__ == "__main__":
    main()
