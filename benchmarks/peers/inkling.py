"""Ours: `model.train.fit`, the compile cache on as in the service."""

import os
from pathlib import Path

from benchmarks.peers.job import LEARNING_RATE, Data, Job
from benchmarks.peers.worker import Reporter, serve
from model.compilation import configure_jax
from model.data import Dataset
from model.reports import EpochReport
from model.spec import TrainSpec
from model.train import fit


def train(job: Job, data: Data, report: Reporter) -> None:
    configure_jax(Path(os.environ["INKLING_CACHE_DIR"]))
    for result in fit(spec(job), Dataset(data.images, data.labels)):
        if isinstance(result, EpochReport):
            report(result.loss)


def spec(job: Job) -> TrainSpec:
    """Its seed gives the first weights that every peer is handed: see `first_weights` in training.py."""
    return TrainSpec.model_validate(
        {
            "network": job.network,
            "optimizer": {"type": "adam", "learning_rate": LEARNING_RATE},
            "batch_size": job.batch_size,
            "epochs": job.slices,
            "seed": 0,
        }
    )


if __name__ == "__main__":
    serve(train, ["jax", "optax", "numpy"])
