"""A service from Python: trainings, models and predictions over HTTP.

    from app.client import Inkling

    with Inkling("http://127.0.0.1:8000") as inkling:
        run = inkling.train(preset="quick", epochs=2)
        for event in inkling.watch(run):
            print(event)
        print(inkling.predict("7.png").digit)

Needs neither JAX nor a database. Whatever goes wrong is a ClientError of `app.connection`.
"""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from app.connection import (
    ClientError,
    Connection,
    Message,
    ServiceError,
    UnknownAnswerError,
    UnreachableError,
    header_value,
)
from app.model_schemas import (
    AliasInfo,
    AliasList,
    CandidateInfo,
    Leaderboard,
    LeaderboardEntry,
    ModelComparison,
    ModelEvaluation,
    ModelInfo,
    ModelList,
    Order,
    Sort,
)
from app.predict_schemas import NumberPrediction, Prediction, PredictionList
from app.schemas import DryRun, PresetInfo, PresetList, Progress, Run, RunEnd, RunList, RunSummary
from model.reports import EpochReport

__all__ = ["ClientError", "Event", "Inkling", "ServiceError", "UnknownAnswerError", "UnreachableError"]

DEFAULT_URL = "http://127.0.0.1:8000"
RUNS_ON_A_PAGE = 100
UPLOAD_SECONDS = 600.0  # the service scores a model for up to 120 s, after those of up to three others

Event = Progress | EpochReport | RunEnd
_EVENTS: dict[str, type[Event]] = {"progress": Progress, "epoch": EpochReport, "end": RunEnd}


class Array(Protocol):
    """NumPy's, PyTorch's, JAX' or another array: [H, W] gray values from 0 to 255."""

    def tolist(self) -> Any: ...


# An image file's path, its bytes, or its pixels.
Drawing = str | os.PathLike[str] | bytes | bytearray | memoryview | Array
D = TypeVar("D", bound=Drawing)


class Inkling:
    """One service. A run or model is named by its id, or given as what another method has returned.

    key: where the service has keys. timeout_seconds: for each answer but an upload's, and for a sign of life of a
    watched run.
    patience_seconds: how long `watch` tries to get back to a service that was there.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_seconds: float = 60.0,
        patience_seconds: float = 120.0,
    ) -> None:
        self._service = Connection(url, key=key, timeout_seconds=timeout_seconds, patience_seconds=patience_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._service.close()

    def train(
        self,
        spec: Mapping[str, Any] | BaseModel | None = None,
        *,
        preset: str | None = None,
        priority: Literal["high", "normal", "low"] = "normal",
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Run:
        """Queues a training. `fields` override the spec's, which override the preset's.

        idempotency_key: your name for the request; sent again with it, it queues no second run.
        """
        headers = (
            {b"Idempotency-Key": header_value(idempotency_key, "the idempotency key")} if idempotency_key else None
        )
        spec = _spec(spec, preset, fields)
        return self._service.read(Run, "POST", "/train", json=spec, params={"priority": priority}, headers=headers)

    def dry_run(
        self, spec: Mapping[str, Any] | BaseModel | None = None, *, preset: str | None = None, **fields: Any
    ) -> DryRun:
        """What the training would be: layers, parameters, memory, time. Nothing is queued."""
        spec = _spec(spec, preset, fields)
        return self._service.read(DryRun, "POST", "/train", json=spec, params={"dry_run": True})

    def watch(self, run: str | RunSummary) -> Iterator[Event]:
        """The run's reports from its start to its end, as they are made; the last is a RunEnd.

        Goes on where it was when the connection breaks. A run that another worker takes over repeats steps and epochs.
        """
        for message in self._service.follow(f"{_run_path(run)}/events"):
            if message.event in _EVENTS:
                yield (event := _event(message))
                if isinstance(event, RunEnd):
                    return

    def wait(self, run: str | RunSummary) -> Run:
        """The run once it has ended."""
        for _ in self.watch(run):
            pass
        return self.run(run)

    def run(self, run: str | RunSummary) -> Run:
        return self._service.read(Run, "GET", _run_path(run))

    def runs(self, *, states: str | Sequence[str] = (), user: str | None = None) -> Iterator[RunSummary]:
        """All runs, or the user's in one of the states; newest first, fetched page by page as they are asked for.

        Those that are queued meanwhile move others to the next page, where they come again.
        """
        asked = _given(limit=RUNS_ON_A_PAGE, state=_listed(states), user=user)
        offset: int | None = 0
        while offset is not None:
            page = self._service.read(RunList, "GET", "/train", params={**asked, "offset": offset})
            yield from page.runs
            offset = page.next_offset

    def cancel(self, run: str | RunSummary) -> Run:
        """Ends a queued or running run."""
        return self._service.read(Run, "POST", f"{_run_path(run)}/cancel")

    def delete(self, run: str | RunSummary) -> None:
        """Forgets a run that has ended; its model stays."""
        self._service.request("DELETE", _run_path(run))

    def presets(self) -> list[PresetInfo]:
        return self._service.read(PresetList, "GET", "/presets").presets

    def leaderboard(self) -> list[LeaderboardEntry]:
        """Every model, best first."""
        return self._service.read(Leaderboard, "GET", "/evaluate").models

    def evaluate(self, model: str | ModelInfo = "default") -> ModelEvaluation:
        """A model's full report on the 10,000 test images."""
        return self._service.read(ModelEvaluation, "GET", f"/evaluate/{_quoted(model)}")

    @overload
    def predict(
        self, drawing: Drawing, *, model: str | ModelInfo | None = None, include: str | Sequence[str] = ()
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        drawing: list[D] | tuple[D, ...],
        *,
        model: str | ModelInfo | None = None,
        include: str | Sequence[str] = (),
    ) -> list[Prediction]: ...

    def predict(
        self, drawing: Any, *, model: str | ModelInfo | None = None, include: str | Sequence[str] = ()
    ) -> Prediction | list[Prediction]:
        """Which digit a drawing shows, or each of a list of them, by the default model or another.

        include: extra fields of the answer, such as "seen". Raises OSError for a file that cannot be read.
        """
        params = _given(include=_listed(include), model=None if model is None else _id(model))
        if isinstance(drawing, list | tuple):
            return self._predict_many(drawing, params) if drawing else []
        return self._service.read(Prediction, "POST", "/predict", params=params, **_body(_content(drawing)))

    def read_number(
        self, drawing: Drawing, *, model: str | ModelInfo | None = None, include: str | Sequence[str] = ()
    ) -> NumberPrediction:
        """The digits of a number that is drawn in one picture, from left to right. Otherwise as `predict`."""
        params = _given(segment=True, include=_listed(include), model=None if model is None else _id(model))
        return self._service.read(NumberPrediction, "POST", "/predict", params=params, **_body(_content(drawing)))

    def _predict_many(self, drawings: Sequence[Drawing], params: dict[str, Any]) -> list[Prediction]:
        contents = [_content(drawing) for drawing in drawings]
        images = [base64.b64encode(item).decode() if isinstance(item, bytes) else item for item in contents]
        answer = self._service.read(PredictionList, "POST", "/predict", params=params, json={"images": images})
        return answer.predictions

    def models(
        self, *, name: str | None = None, sort: Sort | None = None, order: Order | None = None
    ) -> list[ModelInfo]:
        """Every model with `name` in its own, newest first unless asked otherwise."""
        return self._service.read(ModelList, "GET", "/models", params=_given(name=name, sort=sort, order=order)).models

    def model(self, model: str | ModelInfo = "default") -> ModelInfo:
        return self._service.read(ModelInfo, "GET", _model_path(model))

    def pin(self, model: str | ModelInfo | None) -> ModelInfo:
        """Makes a model the one that answers; None: the best one answers again. Returns the one that does."""
        choice = {"model": None if model is None else _id(model)}
        return self._service.read(ModelInfo, "PUT", "/models/default", json=choice)

    def candidate(self) -> CandidateInfo:
        """The model that is tried beside the default, and how often the two agreed."""
        return self._service.read(CandidateInfo, "GET", "/models/candidate")

    def try_candidate(
        self, model: str | ModelInfo | None, *, share: float = 0.0, shadow: bool = False
    ) -> CandidateInfo:
        """Tries a model beside the default, on a share of the predictions or in its shadow; None ends the trial."""
        choice = {"model": None if model is None else _id(model), "share": share, "shadow": shadow}
        return self._service.read(CandidateInfo, "PUT", "/models/candidate", json=choice)

    def aliases(self) -> list[AliasInfo]:
        return self._service.read(AliasList, "GET", "/aliases").aliases

    def set_alias(self, alias: str, model: str | ModelInfo) -> AliasInfo:
        """Makes a name stand for a model, or for another than so far."""
        return self._service.read(AliasInfo, "PUT", f"/aliases/{_quoted(alias)}", json={"model": _id(model)})

    def delete_alias(self, alias: str) -> None:
        self._service.request("DELETE", f"/aliases/{_quoted(alias)}")

    def compare(self, *models: str | ModelInfo) -> ModelComparison:
        """Two to eight models side by side."""
        names = [_id(model) for model in models]
        return self._service.read(ModelComparison, "GET", "/models/compare", params={"models": names})

    def change_model(
        self, model: str | ModelInfo, *, name: str | None = None, description: str | None = None
    ) -> ModelInfo:
        """Renames or describes it."""
        change = _given(name=name, description=description)
        return self._service.read(ModelInfo, "PATCH", _model_path(model), json=change)

    def delete_model(self, model: str | ModelInfo) -> None:
        """One that no alias points to."""
        self._service.request("DELETE", _model_path(model))

    def upload(self, file: str | os.PathLike[str] | bytes, name: str | None = None) -> ModelInfo:
        """Adds a model from a safetensors file as `download` gives it. The same bytes again give the same model.

        The service scores it first, which may take minutes.
        """
        headers = {b"Content-Type": b"application/octet-stream"}
        sent = {"content": _content(file), "params": _given(name=name), "headers": headers}
        return self._service.read(ModelInfo, "POST", "/models", **sent, timeout=UPLOAD_SECONDS)

    def download(self, model: str | ModelInfo, path: str | os.PathLike[str]) -> None:
        """Writes the model's parameters and spec as a safetensors file."""
        Path(path).write_bytes(self._service.request("GET", f"{_model_path(model)}/download").content)


def _spec(given: Mapping[str, Any] | BaseModel | None, preset: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    spec = given.model_dump(mode="json") if isinstance(given, BaseModel) else given or {}
    return {**spec, **({"preset": preset} if preset else {}), **fields}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else [*names]


def _event(message: Message) -> Event:
    try:
        return _EVENTS[message.event].model_validate_json(message.data, extra="ignore")
    except ValidationError as error:
        raise UnknownAnswerError(f"an event is no {message.event} as this client knows them: {error}") from error


def _content(drawing: Drawing) -> Any:
    """An image file's bytes, or rows of pixels."""
    if isinstance(drawing, bytes | bytearray | memoryview):
        return bytes(drawing)
    if isinstance(drawing, str | os.PathLike):
        return Path(drawing).read_bytes()
    if not hasattr(drawing, "tolist"):
        given = type(drawing).__name__
        raise ClientError(
            f"a drawing is an image file's path, its bytes, or an array of pixels; this is of type {given}"
        )
    rows = drawing.tolist()
    if (axes := _axes(rows)) != 2:
        raise ClientError(
            f"a drawing is an array of two axes, its rows and columns; this has {axes}; give several as a list of them"
        )
    return rows


def _axes(nested: Any) -> int:
    """Of an array that was made a list."""
    if not isinstance(nested, list):
        return 0
    return 1 + (_axes(nested[0]) if nested else 0)


def _body(content: Any) -> dict[str, Any]:
    return {"files": {"image": content}} if isinstance(content, bytes) else {"json": {"pixels": content}}


def _run_path(run: str | RunSummary) -> str:
    return f"/train/{_quoted(run)}"


def _model_path(model: str | ModelInfo) -> str:
    return f"/models/{_quoted(model)}"


def _quoted(named: str | RunSummary | ModelInfo) -> str:
    if not (name := _id(named)):
        raise ClientError("the name of a run, model or alias is empty")
    return quote(name, safe="")


def _id(named: str | RunSummary | ModelInfo) -> str:
    return named if isinstance(named, str) else named.id
