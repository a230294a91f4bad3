"""How fast drawings are answered: Inkling beside other ways to serve the same network, in one run, as tables.

    apt-get install wrk
    for peer in fastapi litserve bentoml mlserver gradio; do
        python3 -m venv /tmp/serving-peers/$peer
        /tmp/serving-peers/$peer/bin/pip install -r benchmarks/serving_peers/requirements-$peer.txt
    done
    .venv/bin/python -m benchmarks.serving --soak 60 > table.md

The network is preset `quick`'s, trained by a service that is started for it; the peers load its parameters into
PyTorch. One server runs at a time, on loopback, on the cores that wrk uses too. In each round every server is started,
asked about every drawing, and loaded over 1, 8 and 64 connections with PNG files and with raw pixels.
On two cores a round of all takes about 14 minutes with --seconds 10; the peers take 6 GB of disk.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
from safetensors.numpy import load_file

from app.settings import Settings
from benchmarks.serving_peers import wrk
from benchmarks.serving_peers.drawings import Drawing, drawings, named_by
from benchmarks.serving_peers.process import ServerFailedError, ServerProcess, free_port, started
from benchmarks.serving_peers.servers import BODIES, ROOT, SERVERS, Ask, Server
from benchmarks.serving_peers.table import Measured, Point, aims, loads_table, notes, servers_table
from model.data import load_mnist

OURS, EMPTY = "inkling", "empty"
CONNECTIONS = (1, 8, 64)
DRAWINGS = 50
WARM_SECONDS = 1.0
SOAK_CONNECTIONS = 64
POINTS: list[Point] = list(itertools.product(BODIES, CONNECTIONS))


class Bench(NamedTuple):
    """What every server is measured with."""

    folder: Path  # the model's data folder and its parameters
    peers: Path
    drawings: Sequence[Drawing]
    digits: Sequence[int]  # what each of them must be named
    seconds: float


def main() -> None:
    arguments = parse_arguments()
    if not wrk.is_here():
        sys.exit("there is no wrk: apt-get install wrk")
    with TemporaryDirectory(prefix="inkling-serving-") as folder:
        bench = prepare(Path(folder), arguments)
        results = {name: Measured(SERVERS[name]) for name in arguments.only}
        for _ in range(arguments.rounds):
            for result in results.values():
                measure(result, bench)
        report(results, arguments)
        if arguments.soak:
            print(f"\n{soak(bench, arguments.soak)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is started and measured")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--only", type=names, default=[*SERVERS], help=f"some of {','.join(SERVERS)}")
    parser.add_argument("--side", type=int, default=280, help="of the PNG files, in px; the page sends 112")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of 64 connections to Inkling, errors counted")
    parser.add_argument("--peers", type=Path, default=Path("/tmp/serving-peers"), help="folder of their environments")
    return parser.parse_args()


def names(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(SERVERS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: give some of {', '.join(SERVERS)}")
    return text.split(",")


def prepare(folder: Path, arguments: argparse.Namespace) -> Bench:
    mnist = load_mnist(Settings().cache_dir)
    sent = drawings(mnist.test.images[:DRAWINGS], arguments.side)
    train(folder)
    return Bench(folder, arguments.peers, sent, named_by(load_file(parameters(folder)), sent), arguments.seconds)


def parameters(folder: Path) -> Path:
    return folder / "quick.safetensors"


def train(folder: Path) -> None:
    """A new service trains `quick` by itself; its data folder and the model's parameters stay."""
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "serve"]
    with (
        started(command, ROOT, environment(folder, port), port) as service,
        httpx.Client(base_url=service.url, timeout=60) as http,
    ):
        service.seconds_to_first_answer(lambda: http.get("/readyz").is_success)
        parameters(folder).write_bytes(http.get("/models/default/download").raise_for_status().content)


def environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "INKLING_DATA_DIR": str(folder / "data"),
        "INKLING_PORT": str(port),
        "INKLING_LOG_LEVEL": "ERROR",
        "PEER_PORT": str(port),
        "PEER_PARAMETERS": str(parameters(folder)),
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }


def measure(result: Measured, bench: Bench) -> None:
    """One round of one server."""
    if result.failure:
        return
    with failure_noted(result), running(result.server, bench) as process:
        result.start_seconds.append(first_answer(process, result.server, bench))
        check(process, result.server, bench)
        for point in POINTS:
            load(process, result, point, bench)
        result.memory_bytes.append(process.memory_bytes())


@contextmanager
def failure_noted(result: Measured) -> Iterator[None]:
    """A server that fails has its row, which says why; the others go on."""
    try:
        yield
        said = f"round {len(result.start_seconds)}"
    except ServerFailedError as error:
        result.failure = said = str(error)
    print(f"{result.server.title}: {said}", file=sys.stderr, flush=True)


@contextmanager
def running(server: Server, bench: Bench) -> Iterator[ServerProcess]:
    port = free_port()
    command = server.command_line(bench.peers, port)
    with started(command, ROOT, environment(bench.folder, port), port) as process:
        yield process


def first_answer(process: ServerProcess, server: Server, bench: Bench) -> float:
    ask = server.ask(bench.drawings[0], "png")
    with httpx.Client(base_url=process.url, timeout=60) as http:
        return process.seconds_to_first_answer(lambda: post(http, ask).is_success)


def check(process: ServerProcess, server: Server, bench: Bench) -> None:
    """Raises ServerFailedError unless every drawing is named right, in either form."""
    with httpx.Client(base_url=process.url, timeout=60) as http:
        for drawing, digit in zip(bench.drawings, bench.digits, strict=True):
            for body in BODIES:
                answer = post(http, server.ask(drawing, body))
                if not answer.is_success:
                    raise ServerFailedError(f"{body} is answered {answer.status_code}: {answer.text[:200]}")
                if not server.answers_constant and (named := server.digit(answer.json())) != digit:
                    raise ServerFailedError(f"{body} of a {digit} is named {named}")


def post(http: httpx.Client, ask: Ask) -> httpx.Response:
    return http.post(ask.path, content=ask.content, headers={"Content-Type": ask.media_type})


def load(process: ServerProcess, result: Measured, point: Point, bench: Bench) -> None:
    body, connections = point
    requests = save_requests([result.server.ask(drawing, body) for drawing in bench.drawings], bench.folder)
    wrk.load(process.url, requests, connections, WARM_SECONDS)
    worked_before = process.cpu_seconds()
    came = wrk.load(process.url, requests, connections, bench.seconds)
    result.loads.setdefault(point, []).append(came)
    result.cpu_seconds.setdefault(point, []).append(process.cpu_seconds() - worked_before)


def save_requests(asks: Sequence[Ask], folder: Path) -> Path:
    """The list that wrk reads, with its bodies beside it."""
    requests = []
    for index, ask in enumerate(asks):
        path = folder / f"body-{index}"
        path.write_bytes(ask.content)
        requests.append(wrk.Request(ask.path, ask.media_type, path))
    return wrk.save_list(requests, folder / "requests.tsv")


def report(results: dict[str, Measured], arguments: argparse.Namespace) -> None:
    worked = {name: result for name, result in results.items() if not result.failure}
    ours = worked.get(OURS)
    print("\n".join([*loads_table([*results.values()], POINTS, ours), ""]))
    print("\n".join([*servers_table([*results.values()], arguments.peers), ""]))
    if ours:
        peers = [result for name, result in worked.items() if name not in (OURS, EMPTY)]
        print("\n".join([*aims(ours, worked.get(EMPTY), peers, POINTS), ""]))
    print("\n".join(notes(arguments.rounds, arguments.seconds, arguments.side)))


def soak(bench: Bench, seconds: float) -> str:
    """PNG files and raw pixels in turn."""
    server = SERVERS[OURS]
    with running(server, bench) as process:
        first_answer(process, server, bench)
        asks = [server.ask(drawing, body) for drawing in bench.drawings for body in BODIES]
        came = wrk.load(process.url, save_requests(asks, bench.folder), SOAK_CONNECTIONS, seconds)
    return (
        f"Inkling, {SOAK_CONNECTIONS} connections for {came.seconds:.0f} s: {came.requests:,} requests, "
        f"{came.errors} errors ({came.refused} of status 4xx or 5xx, {came.broken} unanswered); "
        f"p50 {1e3 * came.p50_seconds:.1f} ms, p99 {1e3 * came.p99_seconds:.1f}, most {1e3 * came.max_seconds:.1f}"
    )


if __name__ == "__main__":
    main()
