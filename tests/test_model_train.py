"""Training: every example once an epoch, the same bits for the same spec, and a scan that equals a plain loop."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from model import network as net
from model.data import Dataset, Mnist, split
from model.evaluate import mean_scores
from model.losses import DivergedError, loss_per_example
from model.plan import plan_epoch
from model.reports import EpochReport, FitResult, Report, StepReport
from model.spec import TrainSpec
from model.spec_optimizers import CosineDecay, OneCycle
from model.step import train_step
from model.train import fit
from model.training import Training
from tests.trainings import FLATTEN, SMALL
from tests.trainings import small_spec as spec


def trained(reports: list[Report]) -> net.NetworkParameters:
    assert isinstance(reports[-1], FitResult)
    return reports[-1].parameters


def assert_same_bits(one: net.NetworkParameters, other: net.NetworkParameters) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_epochs_order_has_every_example_once_and_padding_behind_it(images: Dataset) -> None:
    training = Training(spec(), images)
    order = np.asarray(training.epoch_inputs().order)
    assert order.shape == (11, 100)
    assert sorted(order.ravel()) == [-1] * 50 + list(range(1050))
    assert (order[:10] >= 0).all()
    assert (order[10, 50:] == -1).all()
    training.journal.epoch = 2
    assert (order != training.epoch_inputs().order).any()


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 128, 10_000])
@pytest.mark.parametrize("examples", [1, 6_000, 54_000, 59_981, 60_000])
def test_a_plans_chunks_are_the_epoch_and_of_few_lengths(batch_size: int, examples: int) -> None:
    plan = plan_epoch(TrainSpec(batch_size=batch_size), examples, backend="cpu")
    assert [step for chunk in plan.chunks for step in chunk] == list(range(-(-examples // batch_size)))
    assert len({len(chunk) for chunk in plan.chunks}) <= 2
    if plan.steps in (600, 540, 60_000, 54_000):
        assert len({len(chunk) for chunk in plan.chunks}) == 1


def test_reports_come_in_order_and_add_up(images: Dataset) -> None:
    reports = list(fit(spec(), images))
    kinds = [type(report).__name__ for report in reports]
    assert kinds[-2:] == ["EpochReport", "FitResult"]
    steps = [report for report in reports if isinstance(report, StepReport)]
    epochs = [report for report in reports if isinstance(report, EpochReport)]
    assert [report.epoch for report in epochs] == [1, 2]
    assert [report.step for report in steps] == sorted({report.step for report in steps})
    assert (steps[-1].step, steps[-1].steps) == (22, 22)
    assert steps[-1].seconds_left == 0 or steps[-1].seconds_left is None
    assert [report.images_per_second is None for report in steps] == [True, *[False] * (len(steps) - 1)]
    assert epochs[1].loss < epochs[0].loss


def test_a_scan_equals_a_plain_loop_over_optax(images: Dataset) -> None:
    settings = spec(epochs=1, optimizer={"type": "sgd", "learning_rate": 0.1, "momentum": 0.9})
    training = Training(settings, images)
    parameters = jax.tree.map(jnp.copy, training.state.parameters)
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = optimizer.init(parameters)
    order = np.asarray(training.epoch_inputs().order)

    @jax.jit
    @jax.grad
    def gradient_of_loss(parameters: net.NetworkParameters, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = net.apply(parameters, images, network=settings.network)
        return loss_per_example(logits, labels, loss=settings.loss, network=settings.network).mean()

    for row in order[:11]:
        batch = row[row >= 0]
        gradient = gradient_of_loss(parameters, images.images[batch], images.labels[batch])
        updates, state = optimizer.update(gradient, state)
        parameters = optax.apply_updates(parameters, updates)
    for one, other in zip(
        jax.tree.leaves(trained(list(fit(settings, images)))), jax.tree.leaves(parameters), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_bits_do_not_depend_on_how_an_epoch_is_cut(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(list(fit(spec(), images)))
    monkeypatch.setattr("model.plan.CHUNK_SECONDS", 1e-9)
    assert len(plan_epoch(spec(), len(images), backend="cpu").chunks) == 11
    assert_same_bits(whole, trained(list(fit(spec(), images))))


def test_the_same_spec_gives_the_same_bits_and_another_seed_others(images: Dataset) -> None:
    dropout = [FLATTEN, {"type": "dropout", "rate": 0.2}, *SMALL[1:]]
    first = trained(list(fit(spec(network=dropout), images)))
    assert_same_bits(first, trained(list(fit(spec(network=dropout), images))))
    other = trained(list(fit(spec(network=dropout, seed=1), images)))
    assert not np.array_equal(first[2]["kernel"], other[2]["kernel"])


def test_a_run_traces_its_step_once_and_a_new_learning_rate_does_not(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    monkeypatch.setattr(
        "model.step.train_step", lambda *given, **config: traced.append(1) or train_step(*given, **config)
    )
    network = [FLATTEN, {"type": "dense", "units": 33}, *SMALL[2:]]  # no other test has compiled it
    for fields in ({}, {"epochs": 3, "seed": 4, "name": "other"}):
        for rate in (0.1, CosineDecay(initial_learning_rate=0.1), OneCycle(max_learning_rate=0.1)):
            list(fit(spec(network=network, optimizer={"type": "adam", "learning_rate": rate}, **fields), images))
    assert len(traced) == 1


HEART = {"adadelta": 10.0, "adagrad": 0.1, "lion": 0.002, "sgd": 0.5}  # learning rates; 0.01 for the others
SMOOTHED = {"type": "categorical_crossentropy", "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("optimizer", "loss"),
    [
        ({"type": "adam"}, "categorical_crossentropy"),
        ({"type": "adam", "clipnorm": 0.1}, SMOOTHED),
        ({"type": "sgd"}, "categorical_crossentropy"),
        ({"type": "sgd", "momentum": 0.9, "nesterov": True}, "mean_squared_error"),
        ({"type": "rmsprop", "momentum": 0.5, "centered": True}, "mean_squared_error"),
        ({"type": "adagrad"}, "categorical_crossentropy"),
        ({"type": "adadelta"}, "poisson"),
        ({"type": "adamax", "clipvalue": 0.1}, "kl_divergence"),
        ({"type": "nadam"}, "mean_absolute_error"),
        ({"type": "adamw", "global_clipnorm": 1.0}, "hinge"),
        ({"type": "lion", "weight_decay": 0.1}, "categorical_crossentropy"),
    ],
    ids=lambda part: part if isinstance(part, str) else part["type"],
)
def test_one_batch_can_be_learned_by_heart(images: Dataset, optimizer: dict[str, Any], loss: object) -> None:
    rate = {"learning_rate": HEART.get(optimizer["type"], 0.01)}
    few = Dataset(images.images[:20], images.labels[:20])
    last = {**SMALL[-1], "activation": "linear" if loss == "hinge" else "softmax"}
    settings = spec(network=[*SMALL[:-1], last], epochs=300, batch_size=20, loss=loss, optimizer={**optimizer, **rate})
    assert mean_scores(trained(list(fit(settings, few))), few.images, few.labels, settings).accuracy == 1.0


def test_validation_images_are_held_out_and_scored(images: Dataset) -> None:
    settings = spec(validation_split=0.2)
    reports = list(fit(settings, images))
    last = [report for report in reports if isinstance(report, EpochReport)][-1]
    _, held_out = split(images, 0.2)
    assert held_out is not None
    scores = mean_scores(trained(reports), held_out.images, held_out.labels, settings)
    assert (last.validation_loss, last.validation_accuracy) == (scores.loss, scores.accuracy)
    only_train = Dataset(images.images[:840], images.labels[:840])
    assert_same_bits(trained(reports), trained(list(fit(spec(), only_train))))


def test_a_loss_that_explodes_ends_the_training_with_epoch_and_step(images: Dataset) -> None:
    network = [FLATTEN, *[{"type": "dense", "units": 64}] * 4, {"type": "dense", "units": 10}]
    settings = spec(network=network, loss="mean_squared_error", optimizer={"type": "sgd", "learning_rate": 10})
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch 1, at step \d+; try a smaller"):
        list(fit(settings, images))


def test_an_epoch_scores_what_is_on_the_device_and_puts_there_what_it_says_alone(images: Dataset) -> None:
    training = Training(spec(validation_split=0.2, metrics=["accuracy", "per_class_accuracy"]), images)
    list(training.run_epoch())
    training.end_epoch()  # the first compiles
    with jax.transfer_guard("disallow"):
        list(training.run_epoch())
    with jax.transfer_guard_host_to_device("disallow_explicit"):
        training.end_epoch()
    assert training.finished


def test_closing_the_generator_stops_the_training_at_once(mnist: Mnist) -> None:
    reports = fit(TrainSpec(), mnist.train)
    next(reports)
    started = time.monotonic()
    reports.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 10.0  # the training would take minutes
