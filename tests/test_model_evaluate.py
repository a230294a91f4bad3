"""Scores equal those counted by hand; a report equals what its parts say."""

import base64
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from model import network as net
from model.data import Dataset, Mnist
from model.evaluate import HARDEST, calibration, confusion_matrix, evaluate, mean_scores, per_class
from model.spec import TrainSpec

SPEC = TrainSpec.model_validate(
    {"network": [{"type": "flatten"}, {"type": "dense", "units": 10, "activation": "softmax"}]}
)


def test_the_confusion_matrix_has_true_digits_in_rows() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 9], np.uint8), np.array([0, 3, 1, 1]))
    assert (matrix[0, 0], matrix[0, 3], matrix[1, 1], matrix[9, 1]) == (1, 1, 1, 1)
    assert matrix.sum() == 4


def test_scores_of_a_digit_equal_their_definitions() -> None:
    matrix = np.zeros((10, 10), np.int64)
    matrix[3, 3], matrix[3, 8], matrix[5, 3] = 6, 2, 4
    three, eight, nine = (per_class(matrix)[digit] for digit in (3, 8, 9))
    assert (three.precision, three.recall, three.support) == (0.6, 0.75, 8)
    assert three.f1 == pytest.approx(2 * 0.6 * 0.75 / (0.6 + 0.75))
    assert (eight.precision, eight.recall, eight.f1, eight.support) == (0, 0, 0, 0)
    assert (nine.precision, nine.recall, nine.f1, nine.support) == (0, 0, 0, 0)


def test_calibration_weighs_each_bins_gap_by_its_answers() -> None:
    confidences = np.array([0.95, 0.95, 0.95, 0.65, 1.0], np.float32)
    result = calibration(confidences, np.array([True, True, False, True, True]))
    assert [bin_.count for bin_ in result.bins] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 4]
    assert result.bins[9].accuracy == 0.75
    gap_of_nine, gap_of_six = abs((3 * 0.95 + 1) / 4 - 0.75), 1 - 0.65
    assert result.expected_calibration_error == pytest.approx((4 * gap_of_nine + gap_of_six) / 5, abs=1e-6)


def test_a_network_without_weights_guesses_and_says_so(mnist: Mnist) -> None:
    parameters = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0), SPEC.network))
    report = evaluate(parameters, mnist.test, SPEC)
    assert report.loss == pytest.approx(np.log(10), rel=1e-6)
    assert report.accuracy == 980 / 10_000  # it names every image 0, the first of ten equals
    assert [row[0] for row in report.confusion_matrix] == [digit.support for digit in report.per_class]
    assert report.calibration.bins[1].count == 10_000
    assert [image.index for image in report.hardest] == list(range(HARDEST))


@pytest.mark.parametrize("count", [1, 499, 500, 501])
def test_a_report_is_of_every_image_whatever_their_number(mnist: Mnist, count: int) -> None:
    few = Dataset(mnist.test.images[:count], mnist.test.labels[:count])
    parameters = net.init(jax.random.key(0), SPEC.network)
    report = evaluate(parameters, few, SPEC)
    assert np.sum(report.confusion_matrix) == count
    assert report.accuracy == pytest.approx(np.trace(report.confusion_matrix) / count)
    assert (report.loss, report.accuracy) == mean_scores(parameters, few.images, few.labels, SPEC)[:2]


def test_the_hardest_images_are_those_with_the_largest_loss(mnist: Mnist) -> None:
    few = Dataset(mnist.test.images[:200], mnist.test.labels[:200])
    parameters = net.init(jax.random.key(0), SPEC.network)
    logits = np.asarray(net.apply(parameters, few.images, network=SPEC.network), np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(200), few.labels]
    hardest = evaluate(parameters, few, SPEC).hardest
    assert [image.index for image in hardest] == np.argsort(-losses)[:HARDEST].tolist()
    first = hardest[0]
    assert first.label == few.labels[first.index]
    png = base64.b64decode(first.image.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), few.images[first.index])
