"""Keras 3 on the backend that KERAS_BACKEND names: `compile` and one long `fit` on NumPy arrays.

As in keras.io's `simple_mnist_convnet`, with XLA where Keras chooses it (`jit_compile="auto"`), without its progress
bar. `steps_per_execution` is what its documentation offers to "small models with a large Python overhead".
"""

from collections.abc import Sequence
from typing import Any

import keras

from benchmarks.peers.job import LEARNING_RATE, Data, Job, Layer
from benchmarks.peers.worker import Reporter, serve, unit_interval

LAYERS = {
    "flatten": keras.layers.Flatten,
    "dense": keras.layers.Dense,
    "conv2d": keras.layers.Conv2D,
    "max_pooling2d": keras.layers.MaxPooling2D,
}


def train(job: Job, data: Data, report: Reporter, *, steps_per_execution: int = 1) -> None:
    model = build(job.network)
    model.set_weights([array for layer in data.weights for array in layer])
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile="auto",
    )
    model.fit(
        unit_interval(data)[..., None],
        data.labels,
        batch_size=job.batch_size,
        epochs=job.slices,
        verbose=0,
        callbacks=[ReportEpochs(report)],
    )


def build(network: Sequence[Layer]) -> keras.Sequential:
    layers = [LAYERS[layer["type"]](**{key: layer[key] for key in layer if key != "type"}) for layer in network]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers])


class ReportEpochs(keras.callbacks.Callback):
    """Every epoch is a slice; the fit rests inside this callback, so that its set-up is paid once."""

    def __init__(self, report: Reporter) -> None:
        super().__init__()
        self.report = report

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self.report(float(logs["loss"]))


if __name__ == "__main__":
    serve(train, ["keras", "jax" if keras.config.backend() == "jax" else "tensorflow_cpu"])
