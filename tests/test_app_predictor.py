"""The models that answer: the same alone and together, swapped without a gap, and tried beside each other."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from app.database import Database
from app.errors import BusyError, DeadlineError, NoModelError, UnusableModelError
from app.metrics import Metrics
from app.predictor import Predictor
from app.registry import Registry
from app.settings import Settings
from app.warm_model import CODE_BYTES
from model import network as net
from model.data import Mnist
from tests.drawings import draw
from tests.processes import SOON_SECONDS, serving
from tests.published import PARAMETERS, SPEC, publish


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    database = Database(f"sqlite:///{tmp_path / 'inkling.db'}")
    database.migrate()
    yield Registry(database)
    database.close()


@pytest.fixture
def pictures(mnist: Mnist) -> list[np.ndarray]:
    return list(mnist.test.images[:100])


def ready(registry: Registry, **settings: float) -> Predictor:
    predictor = Predictor(registry, Settings(**settings), Metrics())
    predictor.refresh()
    return predictor


def test_an_image_is_answered_the_same_alone_and_in_any_batch(registry: Registry, pictures: list[np.ndarray]) -> None:
    publish(registry, "run", 0.9)

    async def ask() -> None:
        predictor = ready(registry, max_batch=16)
        together = await predictor.answer(pictures)
        assert np.shape(together.probabilities) == (100, 10)
        for size in (1, 3, 16, 17):
            some = await predictor.answer(pictures[:size])
            np.testing.assert_allclose(some.probabilities, together.probabilities[:size], rtol=1e-5, atol=1e-6)
        crowd = await asyncio.gather(*(predictor.answer([picture]) for picture in pictures))
        alone = np.concatenate([answers.probabilities for answers in crowd])
        np.testing.assert_allclose(alone, together.probabilities, rtol=1e-5, atol=1e-6)

    asyncio.run(ask())


def test_there_is_no_answer_before_the_first_model(registry: Registry, pictures: list[np.ndarray]) -> None:
    with pytest.raises(NoModelError):
        asyncio.run(ready(registry).answer(pictures[:1]))


def test_a_new_default_answers_without_a_request_being_lost(registry: Registry, pictures: list[np.ndarray]) -> None:
    first = publish(registry, "first", 0.8)
    predictor = ready(registry)
    second = publish(registry, "second", 0.9)

    async def ask() -> list[str]:
        swapping = asyncio.create_task(predictor.try_refresh())
        answered = []
        while not swapping.done() or len(answered) < 5:
            answered.append((await predictor.answer(pictures[:1])).model)
        return [*answered, (await predictor.answer(pictures[:1])).model]

    answered = asyncio.run(ask())
    assert (answered[0], answered[-1]) == (first, second)
    assert answered == sorted(answered, key=[first, second].index)


def test_a_warm_model_answers_while_another_is_warmed(registry: Registry, pictures: list[np.ndarray]) -> None:
    named, _ = publish(registry, "named", 0.8), publish(registry, "default", 0.9)
    predictor = ready(registry)
    assert asyncio.run(predictor.answer(pictures[:1], named)).model == named
    with ThreadPoolExecutor(1) as pool, predictor._warming:
        assert asyncio.run(predictor.answer(pictures[:1], named)).model == named
        assert asyncio.run(predictor.model(named)).id == named
        assert pool.submit(predictor.candidate_counts).result(SOON_SECONDS) == (0, 0, 0)


def test_whoever_waits_for_a_model_to_be_warm_is_told_when_the_time_is_up(
    registry: Registry, pictures: list[np.ndarray]
) -> None:
    named, _ = publish(registry, "named", 0.8), publish(registry, "default", 0.9)
    predictor = ready(registry)
    with predictor._warming, pytest.raises(DeadlineError):
        asyncio.run(predictor.answer(pictures[:1], named, time.monotonic() + 0.1))
    assert asyncio.run(predictor.answer(pictures[:1], named)).model == named


def test_a_network_is_compiled_once_for_all_its_models(
    registry: Registry, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, "default", 0.9)
    other = publish(registry, "other", 0.8, parameters=net.init(jax.random.key(1), SPEC.network))
    predictor = ready(registry)
    monkeypatch.setattr("app.warm_model._program", None)  # to compile another fails
    ours, others = (asyncio.run(predictor.answer(pictures[:9], model)) for model in ("default", other))
    assert not np.allclose(ours.probabilities, others.probabilities)


def test_of_many_models_those_that_were_asked_for_last_stay_warm(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.predictor.WARM_BYTES", 2.5 * CODE_BYTES)
    one, two, three, default = (publish(registry, f"run {accuracy}", accuracy) for accuracy in (0.1, 0.2, 0.3, 0.9))
    loaded, parameters = [], registry.parameters
    monkeypatch.setattr(registry, "parameters", lambda model: loaded.append(model) or parameters(model))
    predictor = ready(registry, max_batch=1)
    for name in (one, two, one, three, three, one, two, "default"):
        asyncio.run(predictor.model(name))
    assert loaded == [default, one, two, three, two]


def test_a_model_that_answers_nan_never_becomes_the_default(registry: Registry, pictures: list[np.ndarray]) -> None:
    good = publish(registry, "good", 0.8)
    predictor = ready(registry)
    bad = publish_broken(registry)
    assert registry.default() == bad
    predictor.refresh()
    assert predictor.default.id == good
    with pytest.raises(UnusableModelError, match=f"model {bad} cannot answer: .*NaN"):
        asyncio.run(predictor.answer(pictures[:1], bad))


def publish_broken(registry: Registry) -> str:
    return publish(registry, "bad", 0.99, parameters=jax.tree.map(lambda leaf: leaf * np.nan, PARAMETERS))


def test_more_images_than_may_wait_are_refused(registry: Registry, pictures: list[np.ndarray]) -> None:
    publish(registry, "run", 0.9)
    predictor = ready(registry, max_images=10, max_waiting_images=10)

    async def ask() -> None:
        with pytest.raises(BusyError):
            await predictor.answer(pictures[:11])
        assert len((await predictor.answer(pictures[:10])).probabilities) == 10

    asyncio.run(ask())


def settled(predictor: Predictor, pictures: list[np.ndarray]) -> list[str]:
    """Who answered each picture, sent by itself, once every comparison is done."""

    async def ask() -> list[str]:
        answered = [(await predictor.answer([picture])).model for picture in pictures]
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return answered

    return asyncio.run(ask())


def test_a_candidate_in_the_shadow_answers_nobody_and_is_compared(
    registry: Registry, pictures: list[np.ndarray]
) -> None:
    default, twin = publish(registry, "default", 0.9), publish(registry, "twin", 0.8)
    registry.try_beside_default(twin, shadow=True)
    predictor = ready(registry)
    assert set(settled(predictor, pictures)) == {default}
    assert predictor.candidate_counts() == (0, 100, 100)
    registry.try_beside_default(None)
    predictor.refresh()
    assert predictor.candidate_counts() == (0, 0, 0)


def test_what_a_candidate_did_in_every_process_is_counted_until_its_trial_ends(
    registry: Registry, pictures: list[np.ndarray]
) -> None:
    publish(registry, "default", 0.9)
    twin = publish(registry, "twin", 0.8)
    registry.try_beside_default(twin, shadow=True)
    one, other = ready(registry), ready(registry)
    settled(one, pictures)
    settled(other, pictures[:40])
    other.refresh()
    assert one.candidate_counts() == other.candidate_counts() == ready(registry).candidate_counts() == (0, 140, 140)
    registry.try_beside_default(twin, share=1.0)
    settled(other, pictures[:10])
    other.refresh()
    assert one.candidate_counts() == (0, 0, 0)


def test_a_candidate_answers_its_share_and_disagreement_shows(registry: Registry, pictures: list[np.ndarray]) -> None:
    default = publish(registry, "default", 0.9)
    other = publish(registry, "other", 0.8, parameters=net.init(jax.random.key(1), SPEC.network))
    registry.try_beside_default(other, share=0.5)
    predictor = ready(registry)
    answered = settled(predictor, pictures)
    assert {default, other} == set(answered)
    share, compared, agreed = predictor.candidate_counts()
    assert share == compared == answered.count(other)
    assert 20 <= share <= 80  # of 100, by chance less or more once in a billion
    assert agreed < compared


def test_a_request_that_names_its_model_takes_no_part_in_the_trial(
    registry: Registry, pictures: list[np.ndarray]
) -> None:
    default, other = publish(registry, "default", 0.9), publish(registry, "other", 0.8)
    registry.try_beside_default(other, share=1.0)
    predictor = ready(registry)
    assert asyncio.run(predictor.answer(pictures[:1])).model == other
    assert asyncio.run(predictor.answer(pictures[:1], "default")).model == default
    assert asyncio.run(predictor.answer(pictures[:1], default)).model == default


def test_a_candidate_stays_warm_however_many_others_are_asked_for(
    registry: Registry, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.predictor.WARM_BYTES", 1.5 * CODE_BYTES)
    publish(registry, "default", 0.9)
    candidate, other = publish(registry, "candidate", 0.8), publish(registry, "other", 0.7)
    registry.try_beside_default(candidate, share=1.0)
    predictor = ready(registry)
    warm = asyncio.run(predictor.model(candidate))
    assert asyncio.run(predictor.answer(pictures[:1], other)).model == other
    assert asyncio.run(predictor.model(candidate)) is warm


def test_what_a_candidate_did_last_is_counted_when_the_service_ends(registry: Registry, tmp_path: Path) -> None:
    publish(registry, "default", 0.9)
    registry.try_beside_default(publish(registry, "other", 0.8), share=1.0)
    with serving(tmp_path, "api", INKLING_DEFAULT_POLL_SECONDS="60") as service:
        service.ready()
        response = service.http.post("/predict", json={"pixels": np.asarray(draw(7)).tolist()})
        assert response.status_code == 200, response.text
    assert registry.candidate_counts().answered == 1
