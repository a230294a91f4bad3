"""How fast a network trains: Inkling beside its peers, in one run, as tables.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install keras==3.15.1 jax==0.10.2 tensorflow-cpu==2.21.0 torch==2.13.0 scikit-learn==1.9.1
    .venv/bin/python -m benchmarks.training > table.md

Every peer and job has a process of its own, all on the CPU with the threads that the peer chooses, or with `--gpu` all
on the GPU that JAX and PyTorch find, one at work at a time. All get the same images, network and first weights
(scikit-learn draws its own). A first slice of training warms it up; then come rounds, in each of which every peer
trains one slice, so that a machine that slows down slows all; every round another one begins.
On two cores `--rounds 3` takes about 25 minutes and, at most, 6 GB of memory.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.pop("OPENBLAS_NUM_THREADS", None)  # all cores are the matrix peak's, and scikit-learn's: both inherit it

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from app.settings import Settings
from benchmarks.peers.job import EPOCH_IMAGES, NETWORKS, Job, Weights, save_images, save_weights
from benchmarks.peers.process import Peer, PeerFailedError, PeerProcess
from benchmarks.peers.table import MATRIX_SIDE, Row, losses_table, notes, shares_table, speeds_table, starts_table
from benchmarks.turns import in_turn
from model.data import Dataset, load_mnist
from model.spec import TrainSpec
from model.training import Training

OURS = "inkling"
PEERS = {
    OURS: Peer("**Inkling**", "inkling"),
    "keras-jax": Peer("Keras on JAX", "keras", environment={"KERAS_BACKEND": "jax"}),
    "keras-jax-50": Peer(
        "Keras on JAX, `steps_per_execution=50`",
        "keras",
        {"steps_per_execution": 50},
        environment={"KERAS_BACKEND": "jax"},
        largest_batch=10,
    ),
    "keras-tf": Peer("Keras on TensorFlow", "keras", environment={"KERAS_BACKEND": "tensorflow"}),
    "keras-tf-50": Peer(
        "Keras on TensorFlow, `steps_per_execution=50`",
        "keras",
        {"steps_per_execution": 50},
        environment={"KERAS_BACKEND": "tensorflow"},
        largest_batch=10,
    ),
    "torch": Peer("PyTorch", "pytorch"),
    "torch-fused": Peer("PyTorch, `Adam(fused=True)`", "pytorch", {"fused": True}),
    "torch-compile": Peer("PyTorch, `torch.compile`, fused Adam", "pytorch", {"fused": True, "compiled": True}),
    "sklearn": Peer("scikit-learn `MLPClassifier`", "sklearn", networks=("tutorial",)),
}
LENET_BATCH = 128
COLD_START = ("tutorial", 100)  # the job whose peers are started with empty compile caches too
WHOLE_EPOCH_FROM = 100  # smaller batches are extrapolated from these many steps
STEPS = {"tutorial": 2_000, "lenet": 50}
GPU_STEPS = 6_000
QUICK_STEPS, QUICK_ROUNDS = 50, 2


def main() -> None:
    arguments = parse_arguments()
    rounds = QUICK_ROUNDS if arguments.quick else arguments.rounds
    rows: list[Row] = []
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # else the driver takes most of a GPU's memory
    with TemporaryDirectory(prefix="inkling-training-") as folder:
        prepare(Path(folder), arguments.jobs)
        for job in jobs(arguments, rounds):
            peers = [PEERS[name] for name in arguments.peers if PEERS[name].can(job)]
            rows += measure(job, peers, rounds, arguments, Path(folder))
    if arguments.quick:
        print("**A smoke test: few steps, two rounds. Not to be quoted.**\n")
    print("\n".join([*speeds_table(rows, PEERS[OURS]), "", *shares_table(rows), "", *starts_table(rows), ""]))
    if arguments.verbose:
        print("\n".join([*losses_table(rows), ""]))
    print("\n".join(notes(rows, rounds, gpu=jax.devices()[0].device_kind if arguments.gpu else None)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=5, help="slices that are measured of each peer and job")
    parser.add_argument("--jobs", nargs="+", choices=NETWORKS, default=[*NETWORKS], help="networks to train")
    parser.add_argument(
        "--batch-sizes", nargs="+", type=positive, default=[1, 10, 100, 1000], help="of the tutorial network"
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=[*PEERS], help="who takes part")
    parser.add_argument(
        "--peers-python",
        type=lambda path: Path(path).absolute(),
        default=Path("/tmp/peers/bin/python"),
        help="the interpreter that has the peers",
    )
    parser.add_argument("--gpu", action="store_true", help="on a GPU; scikit-learn has none and stays on the CPU")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: few steps, two rounds, no cold start; its numbers are rough"
    )
    parser.add_argument("--verbose", action="store_true", help="a table with the first and the last slice's mean loss")
    return parser.parse_args()


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def prepare(folder: Path, network_names: Sequence[str]) -> None:
    mnist = load_mnist(Settings().cache_dir)
    save_images(folder, mnist.train.images, mnist.train.labels)
    one = Dataset(mnist.train.images[:1], mnist.train.labels[:1])
    for name in network_names:
        save_weights(folder, name, first_weights(name, one))


def first_weights(network_name: str, one: Dataset) -> list[Weights]:
    """What Inkling begins with at seed 0."""
    spec = TrainSpec.model_validate({"network": NETWORKS[network_name], "seed": 0})
    weights = Training(spec, one).weights()
    return [Weights(np.asarray(layer["kernel"]), np.asarray(layer["bias"])) for layer in weights if layer]


def jobs(arguments: argparse.Namespace, rounds: int) -> Iterator[Job]:
    for name in arguments.jobs:
        for batch_size in arguments.batch_sizes if name == "tutorial" else [LENET_BATCH]:
            whole = math.ceil(EPOCH_IMAGES / batch_size)
            steps = whole if name == "tutorial" and batch_size >= WHOLE_EPOCH_FROM else STEPS[name]
            if arguments.gpu:
                steps = GPU_STEPS
            yield Job(name, batch_size, min(steps, whole, QUICK_STEPS if arguments.quick else whole), slices=rounds + 1)


def measure(job: Job, peers: Sequence[Peer], rounds: int, arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """One row a peer; the machine's matrix peak is measured before every slice."""
    rows = [Row(peer, job) for peer in peers]
    with ExitStack() as stack:
        processes = {}
        for row in rows:
            python = Path(sys.executable) if row.peer is PEERS[OURS] else arguments.peers_python
            with failure_noted(row):
                if not arguments.quick and (job.network_name, job.batch_size) == COLD_START:
                    start(row, python, folder, arguments.gpu).end()
                processes[row.peer.title] = start(row, python, folder, arguments.gpu)
                stack.callback(processes[row.peer.title].end)
        for number in range(rounds):
            for row in in_turn(rows, number):
                if row.failure is None:
                    with failure_noted(row):
                        row.peaks.append(gpu_matrix_gflops() if arguments.gpu else matrix_gflops())
                        row.slices.append(processes[row.peer.title].next_slice())
    return rows


def start(row: Row, python: Path, folder: Path, on_gpu: bool) -> PeerProcess:
    """The running peer, its warm-up done."""
    process = PeerProcess(row.peer, row.job, python, folder, on_gpu=on_gpu)
    try:
        first = process.first_slice()
    except BaseException:
        process.end()
        raise
    row.start_seconds.append(first.seconds)
    row.slices[:] = [first]
    return process


@contextmanager
def failure_noted(row: Row) -> Iterator[None]:
    """A peer that fails has its row, which says why; the others go on."""
    try:
        yield
        said = f"{row.epochs[-1]:.2f} s an epoch" if row.epochs else f"started in {row.start_seconds[-1]:.1f} s"
    except PeerFailedError as error:
        row.failure = said = str(error)
    print(f"{row.job.network_name}, batch {row.job.batch_size}: {row.peer.title}: {said}", file=sys.stderr, flush=True)


def matrix_gflops(repeats: int = 3) -> float:
    """The best of a few float32 products of large square matrices in NumPy."""
    factor = np.random.default_rng(0).random((MATRIX_SIDE, MATRIX_SIDE), np.float32)
    product = np.empty_like(factor)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        np.matmul(factor, factor, out=product)
        seconds.append(time.perf_counter() - started)
    return 2 * MATRIX_SIDE**3 / min(seconds) / 1e9


def gpu_matrix_gflops(products: int = 50) -> float:
    """The same in JAX, at full precision, of many products in a row."""
    factor = jnp.asarray(np.random.default_rng(0).random((MATRIX_SIDE, MATRIX_SIDE), np.float32)) / MATRIX_SIDE
    square = jax.jit(
        lambda x: lax.fori_loop(0, products, lambda _, y: jnp.dot(x, y, precision=lax.Precision.HIGHEST), x)
    )
    square(factor).block_until_ready()
    started = time.perf_counter()
    square(factor).block_until_ready()
    return products * 2 * MATRIX_SIDE**3 / (time.perf_counter() - started) / 1e9


if __name__ == "__main__":
    main()
