"""Calibrated probabilities and digit scores equal those computed by hand, and tell digits from other drawings."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from model import network as net
from model.checkpoint import confidence_of, from_bytes
from model.confidence import TEMPERATURES, best_temperature, fit_confidence, fitted
from model.data import Dataset, Mnist
from model.finish import Finished, finished
from model.inference import (
    Confidence,
    DigitScale,
    Gaussians,
    Signs,
    answer,
    calibrated_probabilities,
    digit_scores,
    energy,
    signs,
)
from model.presets import PRESETS
from model.reports import FitResult
from model.spec import TrainSpec
from model.train import fit
from tests.not_digits import KINDS, prepared, several
from tests.trainings import FLATTEN, small_spec

SPEC = small_spec(validation_split=0.1, epochs=3)
LOGITS = np.array([[2.0, 0, 0, 0, 0, 0, 0, 0, 0, -1], [0.0] * 10], np.float32)


class Served(NamedTuple):
    """A small network after its training, as it is served."""

    made: Finished
    parameters: net.NetworkParameters
    confidence: Confidence

    def answer(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        probabilities, scores = ANSWER(self.parameters, self.confidence, images)
        return np.asarray(probabilities), np.asarray(scores)


ANSWER = jax.jit(partial(answer, spec=SPEC))


@pytest.fixture(scope="module")
def parameters(mnist: Mnist) -> net.NetworkParameters:
    (result,) = (report for report in fit(SPEC, mnist.train) if isinstance(report, FitResult))
    return result.parameters


@pytest.fixture(scope="module")
def served(parameters: net.NetworkParameters, mnist: Mnist) -> Served:
    made = finished(parameters, SPEC, mnist)
    confidence = confidence_of(made.data)
    assert confidence
    return Served(made, from_bytes(made.data)[1], confidence)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_temperature_divides_the_logits_of_a_softmax(temperature: float) -> None:
    scaled = np.exp(LOGITS / temperature)
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        calibrated_probabilities(jnp.asarray(LOGITS), temperature, spec=SPEC), expected, atol=1e-6
    )


def test_outputs_that_are_no_softmax_keep_their_order_and_sum_to_one() -> None:
    network = [FLATTEN, {"type": "dense", "units": 10, "activation": "sigmoid"}]
    spec = TrainSpec.model_validate({"network": network, "loss": "mean_squared_error"})
    logits = jnp.linspace(-200.0, 3.0, 10)[None]
    plain, softer = (np.asarray(calibrated_probabilities(logits, temperature, spec=spec)) for temperature in (1.0, 3.0))
    np.testing.assert_allclose(plain, net.probabilities(logits, spec=spec), atol=1e-6)
    assert softer.sum() == pytest.approx(1, abs=1e-6)
    assert softer.argmax() == 9 and softer.max() < plain.max()


def test_energy_is_the_temperature_times_the_log_of_the_sum() -> None:
    by_hand = [2 * np.log(np.e + 8 + np.exp(-0.5)), 2 * np.log(10)]
    np.testing.assert_allclose(energy(jnp.asarray(LOGITS), 2.0), by_hand, rtol=1e-6)


def test_the_temperature_of_labels_drawn_from_the_probabilities_is_found() -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, (20_000, 10))
    labels = (true + random.gumbel(size=true.shape)).argmax(axis=1).astype(np.uint8)  # drawn from their softmax
    assert best_temperature(2.5 * true, labels) == pytest.approx(2.5, rel=0.03)
    assert best_temperature(true, true.argmax(axis=1).astype(np.uint8)) == pytest.approx(TEMPERATURES[0], rel=1e-3)


def test_likelihoods_are_those_of_the_groups_own_gaussians() -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(digit, 1 + digit / 10, (400, 3)).astype(np.float32) for digit in range(12)]
    projection = np.eye(784, 3, dtype=np.float32)
    picture = np.zeros((1, 28, 28), np.uint8)
    picture[0, 0, :3] = (255, 0, 51)  # 1, 0 and 0.2 in its three components
    covariances = [np.cov(group.T) for group in groups]
    shrunk = [0.95 * own + 0.05 * (np.mean(covariances, axis=0) + 1e-4 * np.eye(3)) for own in covariances]
    likelihoods = []
    for group, covariance in zip(groups, shrunk, strict=True):
        apart = np.array([1, 0, 0.2]) - group.mean(axis=0)
        likelihoods.append(-apart @ np.linalg.solve(covariance, apart) - np.log(np.linalg.det(covariance)))
    found = jax.jit(signs)(jnp.zeros((1, 10)), picture, 1.0, fitted(groups, projection))
    assert float(found.likelihood[0]) == pytest.approx(max(likelihoods[:10]), rel=1e-4)
    assert float(found.rivalry[0]) == pytest.approx(max(likelihoods[:10]) - max(likelihoods[10:]), rel=1e-4)


def test_a_digit_passes_the_threshold_and_has_no_better_rival() -> None:
    scale = DigitScale(10.0, 2.0, 50.0, 20.0, threshold=-3.0)
    energies, likelihoods, rivalries = [10.0, 4.0, 10.0], [50.0, 30.0, 50.0], [900.0, 900.0, -40.0]
    found = Signs(jnp.array(energies), jnp.array(likelihoods), jnp.array(rivalries))
    np.testing.assert_allclose(digit_scores(found, scale), [3.0, -1.0, -2.0])


def test_a_model_without_confidence_refuses_nothing() -> None:
    parameters = net.init(jax.random.key(0), SPEC.network)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    probabilities, scores = ANSWER(parameters, None, images)
    np.testing.assert_array_equal(scores, np.asarray(probabilities).max(axis=1))


def test_an_image_is_answered_alone_as_in_any_batch(served: Served, mnist: Mnist) -> None:
    images = mnist.test.images[:64]
    probabilities, scores = served.answer(images)
    for size in (1, 4, 16):
        few_probabilities, few_scores = served.answer(images[:size])
        np.testing.assert_allclose(few_probabilities, probabilities[:size], atol=1e-6)
        np.testing.assert_allclose(few_scores, scores[:size], atol=2e-5)
    others = np.concatenate([images[:1], mnist.test.images[1000:1063]])
    assert served.answer(others)[1][0] == scores[0]


def test_equal_trainings_are_finished_to_equal_bytes(
    parameters: net.NetworkParameters, served: Served, mnist: Mnist, tmp_path: Path
) -> None:
    assert finished(parameters, SPEC, mnist, tmp_path) == served.made
    (file,) = (tmp_path / "confidence").iterdir()
    written = file.stat().st_mtime_ns
    assert finished(parameters, SPEC, mnist, tmp_path) == served.made  # from what the first has kept
    assert file.stat().st_mtime_ns == written


def test_the_report_is_of_the_confidence_that_is_served(served: Served, mnist: Mnist) -> None:
    probabilities, scores = served.answer(mnist.test.images)
    hardest = served.made.evaluation.hardest[0]
    assert hardest.confidence == pytest.approx(float(probabilities[hardest.index].max()), abs=1e-6)
    assert served.made.evaluation.calibration.expected_calibration_error <= 0.01
    assert (scores < 0).mean() <= 0.02


def test_a_temperature_needs_images_that_were_held_out(mnist: Mnist) -> None:
    few = Dataset(mnist.train.images[:3000], mnist.train.labels[:3000])
    parameters = net.init(jax.random.key(0), SPEC.network)
    assert fit_confidence(parameters, SPEC, few).temperature == 1.0  # 300 of them
    most = SPEC.model_copy(update={"validation_split": 0.5})
    assert fit_confidence(parameters, most, few).temperature > 2  # a network that knows nothing is to be unsure


def test_a_network_that_answers_all_alike_has_a_finite_score(mnist: Mnist) -> None:
    few = Dataset(mnist.train.images[:500], mnist.train.labels[:500])
    parameters = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0), SPEC.network))
    confidence = fit_confidence(parameters, SPEC, few)
    probabilities, scores = ANSWER(parameters, confidence, few.images)
    np.testing.assert_allclose(probabilities, 0.1, atol=1e-6)
    assert np.isfinite(scores).all()


def test_every_preset_has_a_head_that_confidence_can_be_fitted_to() -> None:
    confidence = Confidence(
        1.0,
        Gaussians(np.eye(784, 2), np.ones((2, 22)), np.zeros(22), np.zeros(11)),
        DigitScale(0.0, 1.0, 0.0, 1.0, 0.0),
    )
    for preset in PRESETS.values():
        parameters = jax.eval_shape(lambda key, spec=preset.spec: net.init(key, spec.network), jax.random.key(0))
        shapes = jax.eval_shape(
            partial(answer, spec=preset.spec), parameters, confidence, jax.ShapeDtypeStruct((4, 28, 28), jnp.uint8)
        )
        assert [shape.shape for shape in shapes] == [(4, 10), (4,)]


@pytest.mark.parametrize(("kind", "least"), [("scribbles", 0.95), ("letters", 0.92), ("blanks", 0.9)])
def test_digits_score_higher_than_what_is_none(served: Served, mnist: Mnist, kind: str, least: float) -> None:
    images, refused = prepared(KINDS[kind](120, np.random.default_rng(7)))
    _, scores = served.answer(images)
    assert auroc(served.answer(mnist.test.images[:2000])[1], np.append(scores, [-np.inf] * refused)) >= least


def test_digits_score_higher_than_several_of_them(served: Served, mnist: Mnist) -> None:
    images, refused = prepared(several(120, np.random.default_rng(7), mnist.test.images))
    assert refused == 0
    assert auroc(served.answer(mnist.test.images[:2000])[1], served.answer(images)[1]) >= 0.98


def auroc(digits: NDArray[np.float32], others: NDArray[np.floating]) -> float:
    """The chance that a digit's score is the higher one (Mann and Whitney's U over the number of pairs)."""
    return float((digits[:, None] > others[None]).mean())
