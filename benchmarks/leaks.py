"""Whether answering takes ever more memory: 50,000 requests of every kind, and what the API holds after every 5,000.

    apt-get install wrk
    .venv/bin/python -m benchmarks.leaks

Right and wrong requests are mixed: drawings in every form and size, damaged files, unknown models, pages and lists. The
API runs without a worker, with a model that is trained for it. On two cores it takes about 3 minutes.
"""

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.settings import Settings
from benchmarks.reporting import table
from benchmarks.serving_peers import wrk
from benchmarks.serving_peers.process import memory_bytes
from model.data import load_mnist
from tests.processes import Service, serving

QUIET = {"INKLING_LOG_LEVEL": "ERROR"}
HEADINGS = ("requests", "memory (MB)", "requests/s", "refused (4xx)", "5xx", "unanswered")
CONNECTIONS = 16
BURST_SECONDS = 1.0
SIDES = (28, 112, 280, 560)
FORMATS = ("png", "jpeg", "webp")
PAGES = (
    *("/", "/openapi.json", "/healthz", "/readyz", "/models", "/train", "/evaluate", "/evaluate/default"),
    *("/models/default", "/train/first-0", "/train/nothing", "/models/nothing", "/nowhere", "/train?limit=0"),
)
MODES = {"png": ("L", "P", "RGBA"), "jpeg": ("L", "RGB", "CMYK"), "webp": ("RGB", "RGBA")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50_000, help="to send in all")
    parser.add_argument("--parts", type=int, default=10, help="after each of which memory is looked at")
    arguments = parser.parse_args()
    if not wrk.is_here():
        sys.exit("there is no wrk: apt-get install wrk")
    with TemporaryDirectory(prefix="inkling-leaks-") as name:
        folder = Path(name)
        requests = wrk.save_list([*mixed(folder)], folder / "requests.tsv")
        with serving(folder / "data", **QUIET) as service:
            service.ready()  # it has trained its first model by itself
        with serving(folder / "data", "api", **QUIET) as service:
            service.ready()
            for line in table(HEADINGS, growth(service, requests, arguments.requests, arguments.parts)):
                print(line, flush=True)


def growth(service: Service, requests: Path, count: int, parts: int) -> Iterator[list[str]]:
    """A table row before the first request and after each part."""
    yield ["0", megabytes(service), "", "", "", ""]
    sent = 0
    for part in range(1, parts + 1):
        came = []
        while sent < count * part / parts:
            came.append(wrk.load(service.url, requests, CONNECTIONS, BURST_SECONDS, count_server_errors=True))
            sent += came[-1].requests
        speed = sum(load.requests for load in came) / sum(load.seconds for load in came)
        failed = sum(load.server_errors for load in came)
        refused, broken = sum(load.refused for load in came) - failed, sum(load.broken for load in came)
        yield [f"{sent:,}", megabytes(service), f"{speed:.0f}", *map(str, (refused, failed, broken))]


def megabytes(service: Service) -> str:
    return f"{sum(map(memory_bytes, service.pids())) / 1e6:.1f}"


def mixed(folder: Path) -> Iterator[wrk.Request]:
    """Their bodies are files in the folder."""
    mnist = load_mnist(Settings().cache_dir)
    (folder / "bodies").mkdir()
    for index, image in enumerate(mnist.test.images[:4]):
        for number, (path, media_type, content) in enumerate(asked_with(image)):
            body = folder / "bodies" / f"{index}-{number}"
            body.write_bytes(content)
            yield wrk.Request(path, media_type, body)
        for path in PAGES:
            yield wrk.Request(path, method="GET")


def asked_with(digit: NDArray[np.uint8]) -> Iterator[tuple[str, str, bytes]]:
    """Path, media type and body of requests about one digit, [28, 28] uint8."""
    files = [(kind, saved(digit, side, kind, mode)) for kind in FORMATS for mode in MODES[kind] for side in SIDES]
    text = [base64.b64encode(content).decode() for _, content in files]
    for kind, content in files:
        yield "/predict", f"image/{kind}", content
        yield "/predict?include=seen", f"image/{kind}", content[: len(content) // 2]
    yield "/predict?model=nothing", "image/png", files[0][1]
    yield "/predict", "multipart/form-data; boundary=x", form(files[0][1])
    for given in ({"image": text[1]}, {"images": text[:8]}, {"pixels": digit.tolist()}, {"pixels": [[0] * 28] * 28}):
        yield "/predict", "application/json", json.dumps(given).encode()
    for wrong in (b"", b"{", b"[" * 10_000, b'{"image": "%"}', b'{"images": []}'):
        yield "/predict", "application/json", wrong
    yield "/train?dry_run=true", "application/json", b"{}"
    yield "/train", "application/json", b'{"epochs": 0}'


def saved(digit: NDArray[np.uint8], side: int, kind: str, mode: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(255 - digit).resize((side, side)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def form(content: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="7.png"\r\nContent-Type: image/png\r\n\r\n'
    return head + content + b"\r\n--x--\r\n"


if __name__ == "__main__":
    main()
