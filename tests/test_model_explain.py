"""Why a network names a digit: attributions with a known answer, and layers' outputs that equal the layers' own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from model import network as net
from model.data import Mnist
from model.explain import MAX_CHANNELS, MAX_UNITS, activations, saliency
from model.presets import PRESETS
from model.spec import TrainSpec
from model.spec_layers import ActivationLayer, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, Layer
from tests.trainings import small_spec

Images = NDArray[np.uint8]

LINEAR = (Flatten(), Dense(units=10, activation="softmax"))
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
BLACK = np.zeros((1, 28, 28), np.uint8)

apply = jax.jit(net.apply, static_argnames="network")  # one program; each of its operations would be one, too


@pytest.fixture(scope="module")
def three_digits(mnist: Mnist) -> Images:
    return mnist.test.images[:3]


def spec_of(*network: Layer) -> TrainSpec:
    return TrainSpec.model_validate({"network": network})


@partial(jax.jit, static_argnames="spec")
def trained_like(spec: TrainSpec) -> net.NetworkParameters:
    """Random parameters with running statistics and biases that are not at their start."""
    key = jax.random.key(1)
    leaves, tree = jax.tree.flatten(net.init(jax.random.key(0), spec.network))
    noise = [jax.random.uniform(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, [leaf + 0.1 * more for leaf, more in zip(leaves, noise, strict=True)])


def test_in_a_linear_network_a_pixel_adds_its_weight_times_its_ink() -> None:
    spec = spec_of(*LINEAR)
    parameters = trained_like(spec)
    digits = np.array([3, 0, 9])
    kernel = np.asarray(parameters[1]["kernel"]).reshape(28, 28, 10)
    expected = [kernel[..., digit] * image / 255 for image, digit in zip(IMAGES, digits, strict=True)]
    np.testing.assert_allclose(saliency(parameters, IMAGES, digits, spec=spec), expected, atol=1e-6)


def test_of_a_curved_logit_a_pixel_adds_what_the_integral_gives_by_hand() -> None:
    """softplus'(ax) integrated over a in 0..1 is (softplus(x) - softplus(0)) / x: one pixel alone has all of it."""
    spec = spec_of(Flatten(), Dense(units=1, activation="softplus"), Dense(units=10, activation="softmax"))
    parameters = net.init(jax.random.key(0), spec.network)
    parameters[1]["kernel"] = jnp.zeros((784, 1)).at[28 * 5 + 7].set(4.0)
    parameters[2]["kernel"] = jnp.zeros((1, 10)).at[0, 2].set(3.0)
    image = np.zeros((28, 28), np.uint8)
    image[5, 7] = 255
    image[9, 9] = 255  # ink that the network does not look at
    expected = np.zeros((28, 28))
    expected[5, 7] = 3 * (np.log1p(np.exp(4)) - np.log(2))
    np.testing.assert_allclose(saliency(parameters, image[None], np.array([2]), spec=spec)[0], expected, rtol=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_pixels_add_up_to_what_the_image_changes(preset: str, three_digits: Images) -> None:
    spec = PRESETS[preset].spec
    parameters = trained_like(spec)
    logits = np.asarray(apply(parameters, np.concatenate([BLACK, three_digits]), network=spec.network))
    digits = logits[1:].argmax(axis=1)
    change = logits[np.arange(1, len(logits)), digits] - logits[0, digits]
    added = saliency(parameters, three_digits, digits, spec=spec).sum(axis=(1, 2))
    np.testing.assert_allclose(added, change, rtol=0.05, atol=0.02 * np.ptp(logits))


def test_a_pixel_without_ink_adds_nothing(three_digits: Images) -> None:
    spec = small_spec()
    added = saliency(trained_like(spec), three_digits, np.array([1, 2, 3]), spec=spec)
    assert np.array_equal(added[three_digits == 0], np.zeros((three_digits == 0).sum()))
    assert np.any(added[three_digits > 0])


def test_an_image_is_explained_alike_alone_and_among_others() -> None:
    spec = small_spec()
    parameters = trained_like(spec)
    together = saliency(parameters, IMAGES, np.array([1, 2, 3]), spec=spec)
    assert np.array_equal(saliency(parameters, IMAGES[1:2], np.array([2]), spec=spec)[0], together[1])


def test_each_layers_output_is_given_the_last_after_its_activation() -> None:
    spec = spec_of(
        Conv2D(filters=3, activation="relu"), Dropout(rate=0.5), Flatten(), Dense(units=10, activation="softmax")
    )
    parameters = trained_like(spec)
    convolved, dropped, flat, answer = activations(parameters, IMAGES[0], spec=spec)
    assert [layer.type for layer in (convolved, dropped, flat, answer)] == ["conv2d", "dropout", "flatten", "dense"]
    kernel, pixels = np.asarray(parameters[0]["kernel"]), IMAGES[0] / 255
    by_hand = (kernel[:, :, 0, 1] * pixels[4:7, 9:12]).sum() + np.asarray(parameters[0]["bias"])[1]
    assert convolved.values.shape == (3, 26, 26)
    assert convolved.values[1, 4, 9] == pytest.approx(max(by_hand, 0), abs=1e-5)
    assert np.array_equal(dropped.values, convolved.values)
    assert (flat.size, flat.values.shape) == (3 * 26 * 26, (MAX_UNITS,))
    probabilities = net.probabilities(apply(parameters, IMAGES[:1], network=spec.network), spec=spec)[0]
    np.testing.assert_allclose(answer.values, probabilities, rtol=1e-5)


def test_a_wide_layer_shows_its_first_channels() -> None:
    spec = spec_of(Conv2D(filters=70), GlobalAveragePooling2D(), Dense(units=10), ActivationLayer(activation="softmax"))
    wide, mean, *_ = activations(trained_like(spec), IMAGES[0], spec=spec)
    assert (wide.size, wide.values.shape) == (70, (MAX_CHANNELS, 26, 26))
    assert mean.values.shape == (70,)
    np.testing.assert_allclose(mean.values[:MAX_CHANNELS], wide.values.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
