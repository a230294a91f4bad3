"""python -m app.trainer RUN: trains one run in this process, which owns the accelerator, and publishes its model.

Reads the spec as one line of JSON from standard input and writes one JSON message a line to standard output:
{"kind": "progress" | "epoch" | "end", "data": {...}}. Ends when standard input closes.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from pydantic import BaseModel

from app import logs
from app.lifeline import end_with_parent
from app.registry import Registry
from app.schemas import Progress, RunEnd, RunState
from app.settings import Settings
from model.compilation import use_compilation_cache
from model.data import TRAIN_EXAMPLES, DataUnavailableError, Mnist, examples_left, load_mnist
from model.evaluate import evaluate
from model.losses import DivergedError
from model.plan import total_steps
from model.spec import TrainSpec
from model.train import EpochReport, FitResult, fit

PROGRESS_SECONDS = 0.25

Send = Callable[[str, BaseModel], None]


def main(run: str) -> None:
    send = _sender(_take_stdout())
    settings = Settings()
    logs.configure("trainer", settings)
    spec = TrainSpec.model_validate_json(sys.stdin.readline())
    end_with_parent()
    use_compilation_cache(settings.cache_dir)
    registry = Registry(settings.registry_path)
    try:
        model = registry.published(run) or _train(run, spec, registry, settings, send)
        send("end", RunEnd(state=RunState.SUCCEEDED, model=model))
    except (DivergedError, DataUnavailableError) as error:
        send("end", RunEnd(state=RunState.FAILED, error=str(error)))


def _take_stdout() -> TextIO:
    """The pipe to the worker. What a library prints goes to standard error instead."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return messages


def _sender(messages: TextIO) -> Send:
    def send(kind: str, data: BaseModel) -> None:
        messages.write(json.dumps({"kind": kind, "data": data.model_dump(mode="json")}) + "\n")

    return send


def _train(run: str, spec: TrainSpec, registry: Registry, settings: Settings, send: Send) -> str:
    """Returns the id of the published model."""
    steps = total_steps(spec, examples_left(TRAIN_EXAMPLES, spec.validation_split))
    send("progress", Progress(phase="preparing", epoch=1, epochs=spec.epochs, step=0, steps=steps))
    mnist = load_mnist(settings.cache_dir)
    result = _fit(spec, mnist, send)
    send(
        "progress",
        Progress(phase="evaluating", epoch=spec.epochs, epochs=spec.epochs, step=steps, steps=steps),
    )
    evaluation = evaluate(result.parameters, mnist.test, spec)
    return registry.publish(run, spec, result.parameters, evaluation, result.validation)


def _fit(spec: TrainSpec, mnist: Mnist, send: Send) -> FitResult:
    """Sends every epoch, and of the steps so many a second as a person can follow."""
    sent = -PROGRESS_SECONDS
    for report in fit(spec, mnist.train):
        if isinstance(report, FitResult):
            return report
        if isinstance(report, EpochReport):
            send("epoch", report)
        elif time.monotonic() - sent >= PROGRESS_SECONDS:
            send("progress", Progress(phase="training", **report.model_dump()))
            sent = time.monotonic()
    raise AssertionError("fit ends with a FitResult")


if __name__ == "__main__":
    main(sys.argv[1])
