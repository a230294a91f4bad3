"""How fast drawings are answered: Inkling beside other ways to serve the same network, in one run, as tables.

    apt-get install wrk
    for peer in fastapi litserve bentoml mlserver gradio; do
        python3 -m venv /tmp/serving-peers/$peer
        /tmp/serving-peers/$peer/bin/pip install -r benchmarks/serving_peers/requirements-$peer.txt
    done
    .venv/bin/python -m benchmarks.serving --soak 60 > table.md

The network is preset `quick`'s, trained by a service that is started for it; the peers load its parameters into
PyTorch. In each round all servers are started on loopback and asked about every drawing; then they take turns under
each load, PNG files and raw pixels over 1, 8 and 64 connections, on the cores that wrk uses too. Every round another
one begins; whoever is not loaded rests, which is checked.
On two cores a round takes about 5 minutes; all servers together hold 3 GB of memory, the peers 6 GB of disk.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
from safetensors.numpy import load_file

from app.settings import Settings
from benchmarks.serving_peers import wrk
from benchmarks.serving_peers.drawings import Drawing, drawings, named_by
from benchmarks.serving_peers.process import ServerFailedError, ServerProcess, free_port, started
from benchmarks.serving_peers.servers import BATCHING, BODIES, ROOT, SERVERS, Ask, Server
from benchmarks.serving_peers.table import (
    POINTS,
    Measured,
    Point,
    aims_table,
    latencies_table,
    notes,
    servers_table,
    speeds_table,
    work_table,
)
from benchmarks.turns import in_turn
from model.data import load_mnist
from tests.processes import serving

OURS, EMPTY = "inkling", "empty"
ALL = SERVERS | BATCHING
DRAWINGS = 50
WARM_SECONDS = 1.0
SOAK_CONNECTIONS = 64


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
        results = {name: Measured(ALL[name]) for name in arguments.only}
        for number in range(arguments.rounds):
            measure(in_turn([*results.values()], number), bench)
            print(f"round {number + 1} of {arguments.rounds} is over", file=sys.stderr, flush=True)
        report(results, arguments)
        if arguments.soak:
            print(f"\n{soak(bench, arguments.soak)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="in which each server is started and measured")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--only", type=names, default=[*SERVERS], help=f"some of {','.join(ALL)}")
    parser.add_argument("--side", type=int, default=280, help="of the PNG files, in px; the page sends 112")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of 64 connections to Inkling, errors counted")
    parser.add_argument("--peers", type=Path, default=Path("/tmp/serving-peers"), help="folder of their environments")
    return parser.parse_args()


def names(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(ALL):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: give some of {', '.join(ALL)}")
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
    with serving(folder / "data", INKLING_LOG_LEVEL="ERROR") as service:
        service.ready()
        parameters(folder).write_bytes(service.http.get("/models/default/download").raise_for_status().content)


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


class Running(NamedTuple):
    """A started server."""

    result: Measured
    process: ServerProcess


def measure(results: Sequence[Measured], bench: Bench) -> None:
    """One round. A server that fails is left out of what follows."""
    with ExitStack() as stack:
        servers: list[Running] = []
        for result in results:
            if not result.failure:
                with failure_noted(result):
                    servers.append(Running(result, stack.enter_context(answering(result, bench))))
        for point in POINTS:
            for each in servers:
                if not each.result.failure:
                    with failure_noted(each.result):
                        load(each, servers, point, bench)
        for each in servers:
            each.result.memory_bytes.append(each.process.memory_bytes())


@contextmanager
def failure_noted(result: Measured) -> Iterator[None]:
    """A server that fails has its row, which says why; the others go on."""
    try:
        yield
    except (ServerFailedError, httpx.TransportError) as error:
        result.failure = str(error)
        print(f"{result.title}: {error}", file=sys.stderr, flush=True)


@contextmanager
def answering(result: Measured, bench: Bench) -> Iterator[ServerProcess]:
    """Its process, once it has named every drawing right."""
    with running(result.server, bench) as process:
        result.start_seconds.append(first_answer(process, result.server, bench))
        check(process, result.server, bench)
        yield process


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


def load(loaded: Running, servers: Sequence[Running], point: Point, bench: Bench) -> None:
    """What the others work meanwhile is noted."""
    body, connections = point
    server, url = loaded.result.server, loaded.process.url
    requests = save_requests([server.ask(drawing, body) for drawing in bench.drawings], bench.folder)
    wrk.load(url, requests, connections, WARM_SECONDS)
    before = [each.process.cpu_seconds() for each in servers]
    came = wrk.load(url, requests, connections, bench.seconds)
    if not came.requests:
        raise ServerFailedError(f"no answer to {body} over {connections} connections in {came.seconds:.0f} s")
    loaded.result.loads.setdefault(point, []).append(came)
    for each, worked_before in zip(servers, before, strict=True):
        worked = each.process.cpu_seconds() - worked_before
        if each is loaded:
            each.result.cpu_seconds.setdefault(point, []).append(worked)
        else:
            each.result.idle_shares.append(worked / came.seconds)


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
    ours, measured = worked.get(OURS), [*worked.values()]
    print("\n".join([*speeds_table(measured, ours), "", *latencies_table(measured), "", *work_table(measured), ""]))
    print("\n".join([*servers_table([*results.values()], arguments.peers), ""]))
    if ours:
        peers = [result for name, result in worked.items() if name not in (OURS, EMPTY)]
        print("\n".join([*aims_table(ours, worked.get(EMPTY), peers), ""]))
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
