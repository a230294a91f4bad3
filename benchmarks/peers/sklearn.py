"""scikit-learn's MLPClassifier, one `partial_fit` a slice: "a single iteration over the given data".

It draws its first weights itself: there is no documented way to hand it others. `alpha=0` switches off the L2 penalty
that the other peers do not have.
"""

from sklearn.neural_network import MLPClassifier

from benchmarks.peers.job import LEARNING_RATE, Data, Job
from benchmarks.peers.worker import Reporter, serve, unit_interval

ACTIVATIONS = {"sigmoid": "logistic", "relu": "relu"}


def train(job: Job, data: Data, report: Reporter) -> None:
    hidden = [layer for layer in job.network if layer["type"] == "dense"][:-1]
    classifier = MLPClassifier(
        hidden_layer_sizes=tuple(layer["units"] for layer in hidden),
        activation=ACTIVATIONS[hidden[0]["activation"]],
        solver="adam",
        alpha=0.0,
        batch_size=job.batch_size,
        learning_rate_init=LEARNING_RATE,
        random_state=0,
    )
    images = unit_interval(data).reshape(job.images, -1)
    for _ in range(job.slices):
        classifier.partial_fit(images, data.labels, classes=range(10))
        report(float(classifier.loss_))


if __name__ == "__main__":
    serve(train, ["scikit-learn", "numpy"])
