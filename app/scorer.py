"""python -m app.scorer CACHE_DIR BYTES: scores an uploaded model on MNIST's test set.

So many bytes of a safetensors file come on standard input, which then stays open for as long as somebody waits; a
Verdict goes to standard output. A process of its own: a network that takes hours, or all the memory, takes nothing
else along.
"""

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from pydantic import BaseModel

from app.lifeline import end_with_parent, offer_to_the_memory_killer, take_stdout
from model.checkpoint import confidence_of, from_bytes
from model.compilation import configure_jax
from model.data import load_mnist
from model.evaluate import evaluate
from model.losses import DivergedError
from model.scores import Evaluation

NICENESS = 10  # predictions go first


class Verdict(BaseModel):
    """One of the two."""

    evaluation: Evaluation | None = None
    refusal: str | None = None  # what is wrong with the model


def main(cache_dir: Path, count: int) -> None:
    offer_to_the_memory_killer()
    os.nice(NICENESS)
    answer = take_stdout()
    data = sys.stdin.buffer.read(count)
    end_with_parent()
    configure_jax(cache_dir)
    answer.write(_verdict(data, cache_dir).model_dump_json())


def _verdict(data: bytes, cache_dir: Path) -> Verdict:
    spec, parameters = from_bytes(data)
    try:
        test = load_mnist(cache_dir).test
        return Verdict(evaluation=evaluate(jax.tree.map(jnp.asarray, parameters), test, spec, confidence_of(data)))
    except DivergedError:
        return Verdict(refusal="its outputs on the test images are not finite")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
