"""The servers: how each is started, asked and understood. Where it has a choice, what its documentation recommends."""

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.serving_peers.drawings import Drawing

ROOT = Path(__file__).parents[2]
BODIES: tuple["Body", ...] = ("png", "pixels")

Body = Literal["png", "pixels"]


class Ask(NamedTuple):
    """A request's body and where it goes."""

    path: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Server:
    """command: a module and its arguments; python: the environment's name under --peers, or "" for this one.

    packages: those whose versions are told.
    """

    title: str
    command: tuple[str, ...]
    ask: Callable[[Drawing, Body], Ask]
    digit: Callable[[Any], int]
    packages: tuple[str, ...]
    python: str = ""
    answers_constant: bool = False

    def interpreter(self, peers: Path) -> Path:
        return peers / self.python / "bin" / "python" if self.python else Path(sys.executable)

    def command_line(self, peers: Path, port: int) -> list[str]:
        arguments = (argument.format(port=port) for argument in self.command)
        return [str(self.interpreter(peers)), "-m", *arguments]


def _json(path: str, content: Any) -> Ask:
    return Ask(path, "application/json", json.dumps(content, separators=(",", ":")).encode())


def _base64(drawing: Drawing) -> str:
    return base64.b64encode(drawing.png).decode()


def _ask_inkling(drawing: Drawing, body: Body) -> Ask:
    if body == "png":
        return Ask("/predict", "image/png", drawing.png)
    return _json("/predict", {"pixels": drawing.pixels})


def _ask_plain(drawing: Drawing, body: Body) -> Ask:
    return Ask("/png", "image/png", drawing.png) if body == "png" else _json("/pixels", {"pixels": drawing.pixels})


def _ask_litserve(drawing: Drawing, body: Body) -> Ask:
    return _json("/predict", {"png": _base64(drawing)} if body == "png" else {"pixels": drawing.pixels})


def _bentoml(service: str) -> tuple[str, ...]:
    module = "benchmarks.serving_peers.bentoml"
    return ("bentoml", "serve", f"{module}:{service}", "--host", "127.0.0.1", "--port", "{port}")


def _ask_bentoml(drawing: Drawing, body: Body) -> Ask:
    return _json("/png", {"png": _base64(drawing)}) if body == "png" else _json("/pixels", {"pixels": drawing.pixels})


def _ask_batching_bentoml(drawing: Drawing, body: Body) -> Ask:
    if body == "png":
        return _json("/png", {"pngs": [_base64(drawing)]})
    return _json("/pixels", {"pixels": [drawing.pixels]})


def _ask_mlserver(drawing: Drawing, body: Body) -> Ask:
    """The Open Inference Protocol's tensors."""
    tensor: dict[str, Any] = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": drawing.pixels}
    if body == "png":
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [_base64(drawing)]}
    return _json("/v2/models/digits/infer", {"inputs": [tensor]})


def _ask_gradio(drawing: Drawing, body: Body) -> Ask:
    return _json(f"/gradio_api/run/{body}", {"data": [_base64(drawing) if body == "png" else drawing.pixels]})


def _digit_of_mlserver(answer: Any) -> int:
    return int(np.argmax(answer["outputs"][0]["data"]))


def _digit(answer: Any) -> int:
    return int(answer["digit"])


def _digit_of_first(answer: Any) -> int:
    return _digit(answer[0])


def _digit_of_gradio(answer: Any) -> int:
    return _digit(answer["data"][0])


SERVERS = {
    "inkling": Server(
        title="**Inkling**",
        command=("app.cli", "api"),
        ask=_ask_inkling,
        digit=_digit,
        packages=("fastapi", "uvicorn", "jax", "pillow"),
    ),
    "empty": Server(
        title="empty route, same uvicorn",
        command=("benchmarks.serving_peers.empty",),
        ask=_ask_inkling,
        digit=_digit,
        packages=("fastapi", "uvicorn"),
        answers_constant=True,
    ),
    "fastapi": Server(
        title="FastAPI + PyTorch",
        command=("benchmarks.serving_peers.plain",),
        ask=_ask_plain,
        digit=_digit,
        packages=("fastapi", "uvicorn", "torch", "pillow"),
        python="fastapi",
    ),
    "litserve": Server(
        title="LitServe",
        command=("benchmarks.serving_peers.litserve",),
        ask=_ask_litserve,
        digit=_digit,
        packages=("litserve", "fastapi", "uvicorn", "torch", "pillow"),
        python="litserve",
    ),
    "bentoml": Server(
        title="BentoML",
        command=_bentoml("DigitsService"),
        ask=_ask_bentoml,
        digit=_digit,
        packages=("bentoml", "uvicorn", "torch", "pillow"),
        python="bentoml",
    ),
    "mlserver": Server(
        title="MLServer",
        command=("benchmarks.serving_peers.mlserver",),
        ask=_ask_mlserver,
        digit=_digit_of_mlserver,
        packages=("mlserver", "fastapi", "uvicorn", "torch", "pillow"),
        python="mlserver",
    ),
    "gradio": Server(
        title="Gradio",
        command=("benchmarks.serving_peers.gradio",),
        ask=_ask_gradio,
        digit=_digit_of_gradio,
        packages=("gradio", "fastapi", "uvicorn", "torch", "pillow"),
        python="gradio",
    ),
}
BATCHING = {
    "litserve-batching": replace(
        SERVERS["litserve"], title="LitServe, batching", command=("benchmarks.serving_peers.litserve", "batching")
    ),
    "bentoml-batching": replace(
        SERVERS["bentoml"],
        title="BentoML, batching",
        command=_bentoml("BatchingDigitsService"),
        ask=_ask_batching_bentoml,
        digit=_digit_of_first,
    ),
    "mlserver-batching": replace(
        SERVERS["mlserver"], title="MLServer, batching", command=("benchmarks.serving_peers.mlserver", "batching")
    ),
}
