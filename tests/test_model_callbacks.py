"""What a spec may ask for beside the plain loop: callbacks, averages, weights, metrics, regularisation, precision."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model import network as net
from model.convolution import convolve
from model.data import Dataset, Mnist, split
from model.evaluate import mean_scores
from model.finish import finished, salvaged
from model.layers import Batch
from model.losses import DivergedError, loss_per_example
from model.reports import EpochReport, FitResult
from model.spec import TrainSpec
from model.spec_layers import AveragePooling2D, Conv2D, Dense, Flatten, GlobalAveragePooling2D, Layer
from model.spec_optimizers import Optimizer
from model.train import fit
from tests.trainings import FLATTEN, SMALL, small_spec

spec = partial(small_spec, epochs=3)


def trained(settings: TrainSpec, images: Dataset) -> tuple[list[EpochReport], FitResult]:
    reports = list(fit(settings, images))
    assert isinstance(reports[-1], FitResult)
    return [report for report in reports if isinstance(report, EpochReport)], reports[-1]


NOISY = {"type": "adam", "learning_rate": 0.05}  # so that the validation loss soon rises


def test_early_stopping_ends_the_run_and_restores_the_best_epochs_weights(images: Dataset) -> None:
    stopping = {"monitor": "validation_loss", "patience": 2, "restore_best_weights": True}
    settings = spec(optimizer=NOISY, validation_split=0.2, early_stopping=stopping, epochs=50)
    history, result = trained(settings, images)
    losses = [report.validation_loss for report in history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 50
    assert result.validation == history[best].validation
    _, held_out = split(images, 0.2)
    assert held_out is not None
    assert mean_scores(result.parameters, held_out.images, held_out.labels, settings) == result.validation


def test_the_best_weights_are_restored_when_the_run_ends_normally_too(images: Dataset) -> None:
    stopping = {"patience": 1000, "restore_best_weights": True}
    settings = spec(optimizer=NOISY, validation_split=0.2, early_stopping=stopping, epochs=8)
    history, result = trained(settings, images)
    losses = [report.validation_loss for report in history]
    assert len(losses) == 8
    assert result.validation == history[int(np.argmin(losses))].validation != history[-1].validation


def test_without_restoring_the_last_epochs_weights_are_kept(images: Dataset) -> None:
    settings = spec(optimizer=NOISY, validation_split=0.2, early_stopping={"patience": 2}, epochs=50)
    history, result = trained(settings, images)
    assert result.validation == history[-1].validation


def test_a_plateau_lowers_the_learning_rate_down_to_its_least(images: Dataset) -> None:
    plateau = {"monitor": "loss", "patience": 1, "min_delta": 100, "factor": 0.1, "min_lr": 0.0002}
    history, _ = trained(spec(reduce_lr_on_plateau=plateau, epochs=5), images)
    rates = [report.learning_rate for report in history]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 2e-4, 2e-4, 2e-4], rtol=1e-6)


def test_a_lowered_learning_rate_is_the_one_that_is_used(images: Dataset) -> None:
    plateau = {"monitor": "loss", "patience": 1, "min_delta": 100, "factor": 1e-9}
    _, stalled = trained(spec(reduce_lr_on_plateau=plateau, epochs=3, optimizer={"type": "sgd"}), images)
    _, two_epochs = trained(spec(epochs=2, optimizer={"type": "sgd"}), images)
    for one, other in zip(jax.tree.leaves(stalled.parameters), jax.tree.leaves(two_epochs.parameters), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_average_is_that_of_every_steps_parameters(images: Dataset) -> None:
    few = Dataset(images.images[:60], images.labels[:60])
    fields: dict[str, Any] = {"batch_size": 60, "optimizer": {"type": "sgd", "learning_rate": 0.5}}
    after = [trained(spec(epochs=epochs, **fields), few)[1].parameters for epochs in (1, 2, 3)]
    expected = jax.tree.map(lambda a, b, c: 0.7 * (0.7 * a + 0.3 * b) + 0.3 * c, *after)
    _, result = trained(spec(epochs=3, ema_momentum=0.7, **fields), few)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), result.parameters, expected)


def test_a_weight_of_zero_is_as_good_as_no_images_of_the_class(images: Dataset) -> None:
    few = Dataset(images.images[:100], images.labels[:100])
    sgd: dict[str, Any] = {"optimizer": {"type": "sgd", "learning_rate": 1.0}, "epochs": 1}
    weights = [0.0 if digit == few.labels[0] else 1.0 for digit in range(10)]
    without = few.labels != few.labels[0]
    rest = Dataset(few.images[without], few.labels[without])
    # The mean is over all images (Keras'), so the step is smaller by the share that is left.
    smaller = {"optimizer": {"type": "sgd", "learning_rate": float(without.mean())}, "epochs": 1}
    history, weighted = trained(spec(class_weight=weights, **sgd), few)
    expected_history, expected = trained(spec(**smaller), rest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), weighted.parameters, expected.parameters)
    assert history[0].loss == pytest.approx(expected_history[0].loss * without.mean(), rel=1e-5)


def test_metrics_are_what_they_are_by_hand(images: Dataset) -> None:
    metrics = [{"type": "top_k_categorical_accuracy", "k": 3}, "per_class_accuracy"]
    still = {"type": "sgd", "learning_rate": 1e-12}  # so that the epoch's means are those of one network
    settings = spec(metrics=metrics, optimizer=still, epochs=1, validation_split=0.2)
    history, result = trained(settings, images)
    for part, report in zip(split(images, 0.2), ("", "validation_"), strict=True):
        assert part is not None
        logits = np.asarray(net.apply(result.parameters, part.images, network=settings.network))
        ranks = (-logits).argsort(axis=1)
        top_3 = np.mean([label in row[:3] for label, row in zip(part.labels, ranks, strict=True)])
        assert getattr(history[0], f"{report}top_k_accuracy") == pytest.approx(top_3, abs=1e-6)
        per_class = [np.mean(ranks[part.labels == digit, 0] == digit) for digit in range(10)]
        np.testing.assert_allclose(getattr(history[0], f"{report}per_class_accuracy"), per_class, atol=1e-6)


def test_a_digit_without_images_has_no_accuracy(images: Dataset) -> None:
    none = Dataset(images.images[images.labels != 4], images.labels[images.labels != 4])
    history, _ = trained(spec(metrics=["per_class_accuracy"], epochs=1), none)
    assert history[0].per_class_accuracy is not None
    assert [digit for digit, share in enumerate(history[0].per_class_accuracy) if share is None] == [4]


@pytest.mark.parametrize("chunk_seconds", [1e-9, 0.25], ids=["a chunk a step", "a chunk an epoch"])
def test_a_training_that_diverges_keeps_the_last_parameters_that_were_finite(
    images: Dataset, monkeypatch: pytest.MonkeyPatch, chunk_seconds: float
) -> None:
    monkeypatch.setattr("model.plan.CHUNK_SECONDS", chunk_seconds)
    monkeypatch.setattr("model.training.GOOD_SECONDS", 0.0)
    network = [FLATTEN, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    schedule = {"type": "step_decay", "initial_learning_rate": 1e-3, "drop": 0.5}
    settings = spec(network=network, loss="mean_squared_error", optimizer={"type": "sgd", "learning_rate": schedule})
    steps = 12  # of 11 an epoch

    def rates(optimizer: Optimizer, at: np.ndarray, **named: Any) -> np.ndarray:
        return np.where(at < steps, 1e-3, 1e8).astype(np.float32)

    monkeypatch.setattr("model.training.rates_at", rates)
    with pytest.raises(DivergedError, match=r"in epoch 2, at step 1[4-7];") as caught:
        list(fit(settings, images))
    assert caught.value.last_good is not None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(caught.value.last_good))


def test_a_training_that_diverges_keeps_the_best_epochs_weights_where_they_are_to_be_restored(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 9  # of an epoch of 840 images

    def rates(optimizer: Optimizer, at: np.ndarray, **named: Any) -> np.ndarray:
        return np.select([at < steps, at < 2 * steps], [1e-3, 1.0], 1e38)

    monkeypatch.setattr("model.training.rates_at", rates)
    monkeypatch.setattr("model.training.GOOD_SECONDS", 0.0)
    stopping = {"monitor": "validation_loss", "patience": 9, "restore_best_weights": True}
    settings = spec(loss="mean_squared_error", validation_split=0.2, early_stopping=stopping)
    history: list[EpochReport] = []
    with pytest.raises(DivergedError) as caught:
        history.extend(report for report in fit(settings, images) if isinstance(report, EpochReport))
    best, worse = history
    assert worse.validation_loss > best.validation_loss
    _, held_out = split(images, 0.2)
    assert held_out is not None and caught.value.last_good is not None
    assert mean_scores(caught.value.last_good, held_out.images, held_out.labels, settings) == best.validation


def test_last_good_parameters_whose_outputs_are_not_finite_are_not_kept(mnist: Mnist) -> None:
    *layers, last = net.init(jax.random.key(0), spec().network)
    huge = [*layers, jax.tree.map(lambda leaf: jnp.full_like(leaf, 3e38), last)]
    assert salvaged(DivergedError("", huge), spec(), mnist) is None


def test_a_max_norm_holds_after_training_and_a_regularizer_shrinks_the_kernel(images: Dataset) -> None:
    def kernel(**fields: Any) -> np.ndarray:
        hidden = {**SMALL[1], **fields}
        return np.asarray(trained(spec(network=[FLATTEN, hidden, SMALL[2]]), images)[1].parameters[1]["kernel"])

    norms = np.linalg.norm(kernel(kernel_constraint={"max_value": 0.5}), axis=0)
    assert norms.max() <= 0.5 * (1 + 1e-5)
    plain = kernel()
    assert np.linalg.norm(plain, axis=0).max() > 0.5
    assert np.square(kernel(kernel_regularizer={"l2": 0.1})).sum() < 0.5 * np.square(plain).sum()
    assert np.abs(kernel(kernel_regularizer={"l1": 0.01})).sum() < 0.5 * np.abs(plain).sum()


def test_bfloat16_trains_to_nearly_the_same_and_keeps_float32_parameters(images: Dataset) -> None:
    history, result = trained(spec(compute_dtype="bfloat16"), images)
    exact, _ = trained(spec(), images)
    assert history[-1].loss == pytest.approx(exact[-1].loss, rel=0.05)
    assert history[-1].loss != exact[-1].loss
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result.parameters)} == {"float32"}


def test_augmentation_changes_the_training_and_not_the_scores(images: Dataset) -> None:
    settings = spec(augmentation={"shift": 3, "rotation": 15}, validation_split=0.2)
    history, result = trained(settings, images)
    plain, _ = trained(spec(validation_split=0.2), images)
    assert history[-1].accuracy < plain[-1].accuracy
    _, held_out = split(images, 0.2)
    assert held_out is not None
    assert mean_scores(result.parameters, held_out.images, held_out.labels, settings) == result.validation


def test_what_diverges_unseen_in_an_epochs_last_step_is_told_with_its_place(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 9  # of an epoch of 840 images

    def rates(optimizer: Optimizer, at: np.ndarray, **named: Any) -> np.ndarray:
        return np.where(at % steps < steps - 1, 1e-3, 1e38).astype(np.float32)

    monkeypatch.setattr("model.training.rates_at", rates)
    network = [FLATTEN, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    settings = spec(network=network, loss="mean_squared_error", optimizer={"type": "sgd"}, validation_split=0.2)
    with pytest.raises(DivergedError, match="after epoch 1, at step 9, the network's outputs are not finite"):
        list(fit(settings, images))


def test_what_diverges_unseen_in_the_very_last_step_leaves_what_was_good_before(
    images: Dataset, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rates(optimizer: Optimizer, at: np.ndarray, *, total_steps: int, **named: Any) -> np.ndarray:
        return np.where(at < total_steps - 1, 1e-3, 1e30)

    monkeypatch.setattr("model.training.rates_at", rates)
    network = [FLATTEN, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    settings = spec(network=network, loss="mean_squared_error", optimizer={"type": "sgd"})
    _, result = trained(settings, images)
    with pytest.raises(DivergedError, match="after the last step, the network's outputs are not finite") as caught:
        finished(result.parameters, settings, mnist, last_good=result.last_good)
    assert salvaged(caught.value, settings, mnist) is not None


def test_a_bfloat16_convolution_adds_up_its_kernels_gradient_in_float32() -> None:
    def gradient(dtype: Any) -> np.ndarray:
        x, kernel = jnp.ones((2048, 4, 4, 2), dtype), jnp.ones((3, 3, 2, 4), dtype)
        return np.asarray(
            jax.grad(lambda kernel: convolve(x, kernel, strides=1, padding="valid").astype(jnp.float32).sum())(kernel),
            np.float32,
        )

    np.testing.assert_allclose(gradient(jnp.bfloat16), gradient(jnp.float32), rtol=0.01)


@pytest.mark.parametrize(
    "network",
    [
        (Conv2D(filters=4), GlobalAveragePooling2D(), Dense(units=10)),
        (Conv2D(filters=4), AveragePooling2D(), Flatten(), Dense(units=10)),
        (Flatten(), Dense(units=32), Dense(units=10)),
    ],
    ids=["mean of the image", "mean of windows", "dense"],
)
def test_a_bfloat16_network_adds_up_its_biases_gradients_in_float32(network: tuple[Layer, ...]) -> None:
    parameters = net.init(jax.random.key(0), network)
    images, labels = np.random.default_rng(0).random((512, 28, 28), np.float32), np.zeros(512, np.uint8)

    def gradients(dtype: str) -> list[jax.Array]:
        batch = Batch(jax.random.key(1), jnp.ones(512, bool))

        def loss(parameters: net.NetworkParameters) -> jax.Array:
            logits, _ = net.apply_training(parameters, images, batch, network=network, dtype=dtype)
            return loss_per_example(logits, labels, loss="categorical_crossentropy", network=network).mean()

        return [layer["bias"] for layer in jax.jit(jax.grad(loss))(parameters) if layer]

    for bfloat16, exact in zip(gradients("bfloat16"), gradients("float32"), strict=True):
        assert np.linalg.norm(bfloat16 - exact) < 0.003 * np.linalg.norm(exact)
