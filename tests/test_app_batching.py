"""What arrives together is run together, nothing waits for nothing, and nobody waits for ever."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.batching import Batcher, Limits
from app.errors import BusyError, DeadlineError

LIMITS = Limits(batch=4, wait_seconds=0.0, waiting=8)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Squares:
    """Squares numbers, and remembers the batches that they came in."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.batches.append(numbers)
        self.threads.add(threading.get_ident())
        return [ValueError(f"{number} is negative") if number < 0 else number**2 for number in numbers]


def quick(size: int) -> float:
    return 0.0


def soon() -> float:
    return time.monotonic() + 60


@pytest.mark.parametrize("seconds", [quick, lambda size: 1.0], ids=["in the loop", "in a thread"])
def test_what_arrives_together_is_run_together(pool: ThreadPoolExecutor, seconds: Callable[[int], float]) -> None:
    squares = Squares()

    async def ask() -> list[list[int]]:
        batcher = Batcher(squares, LIMITS, pool, seconds=seconds)
        return await asyncio.gather(*(batcher.submit([number], soon()) for number in range(6)))

    assert asyncio.run(ask()) == [[0], [1], [4], [9], [16], [25]]
    assert squares.batches == [[0, 1, 2, 3], [4, 5]]
    assert (threading.get_ident() in squares.threads) == (seconds is quick)


def test_what_each_turn_of_the_loop_brings_is_run_together_until_one_brings_nothing(pool: ThreadPoolExecutor) -> None:
    squares = Squares()

    async def ask() -> None:
        batcher = Batcher(squares, LIMITS, pool, seconds=quick)

        async def after(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await batcher.submit([turns], soon())

        await asyncio.gather(*map(after, (0, 1, 2, 9)))

    asyncio.run(ask())
    assert squares.batches == [[0, 1, 2], [9]]


def test_many_items_of_one_request_are_answered_in_their_order(pool: ThreadPoolExecutor) -> None:
    squares = Squares()

    async def ask() -> list[int]:
        return await Batcher(squares, LIMITS, pool).submit([3, 1, 2, 5, 4, 6], soon())

    assert asyncio.run(ask()) == [9, 1, 4, 25, 16, 36]


def test_a_lone_item_never_waits_and_several_wait_for_more(pool: ThreadPoolExecutor) -> None:
    squares = Squares()

    async def ask() -> float:
        await Batcher(squares, LIMITS._replace(wait_seconds=600.0), pool, seconds=quick).submit([1], soon())
        batcher = Batcher(squares, LIMITS._replace(wait_seconds=1.0), pool, seconds=quick)
        start = time.monotonic()
        pair = asyncio.gather(batcher.submit([2], soon()), batcher.submit([3], soon()))
        await asyncio.sleep(0.05)
        await batcher.submit([4], soon())
        await pair
        return time.monotonic() - start

    assert asyncio.run(ask()) >= 1.0
    assert squares.batches == [[1], [2, 3, 4]]


def test_a_batch_that_is_full_meanwhile_waits_no_longer(pool: ThreadPoolExecutor) -> None:
    squares = Squares()

    async def ask() -> list[list[int]]:
        batcher = Batcher(squares, LIMITS._replace(wait_seconds=600.0), pool, seconds=quick)
        pair = asyncio.gather(batcher.submit([1, 2], soon()))
        await asyncio.sleep(0.05)
        assert squares.batches == []
        await batcher.submit([3, 4], soon())
        return await pair

    assert asyncio.run(ask()) == [[1, 4]]
    assert squares.batches == [[1, 2, 3, 4]]


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room(pool: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def wait(numbers: list[int]) -> list[int]:
        release.wait(30)
        return numbers

    async def ask() -> None:
        batcher = Batcher(wait, LIMITS, pool)
        running = asyncio.create_task(batcher.submit([0], soon()))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.submit(list(range(8)), soon()))
        await asyncio.sleep(0.05)
        assert len(batcher) == 8
        with pytest.raises(BusyError, match="8 images are waiting already"):
            await batcher.submit([9], soon())
        release.set()
        assert (await running, await waiting, await batcher.submit([9], soon())) == ([0], list(range(8)), [9])

    asyncio.run(ask())


def test_what_has_waited_for_too_long_is_refused_and_not_run(pool: ThreadPoolExecutor) -> None:
    squares = Squares()
    release = threading.Event()

    def slow(numbers: list[int]) -> Sequence[int | Exception]:
        release.wait(30)
        return squares(numbers)

    async def ask() -> None:
        batcher = Batcher(slow, LIMITS, pool)
        running = asyncio.create_task(batcher.submit([1], soon()))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(batcher.submit([2], time.monotonic() + 0.05))
        await asyncio.sleep(0.1)
        release.set()
        with pytest.raises(DeadlineError, match="not answered within its time"):
            await late
        assert await running == [1]

    asyncio.run(ask())
    assert squares.batches == [[1]]


def test_an_error_meets_the_item_that_caused_it_alone(pool: ThreadPoolExecutor) -> None:
    async def ask() -> list[list[int] | BaseException]:
        batcher = Batcher(Squares(), LIMITS, pool, seconds=quick)
        return await asyncio.gather(*(batcher.submit([n], soon()) for n in (1, -2, 3)), return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, str(second), third) == ([1], "-2 is negative", [9])


def test_a_failed_batch_fails_all_of_it_and_nothing_after_it(pool: ThreadPoolExecutor) -> None:
    failing = True

    def run(numbers: list[int]) -> list[int]:
        if failing:
            raise RuntimeError("the device is lost")
        return numbers

    async def ask() -> None:
        nonlocal failing
        batcher = Batcher(run, LIMITS, pool)
        results = await asyncio.gather(*(batcher.submit([n], soon()) for n in (1, 2)), return_exceptions=True)
        assert [str(result) for result in results] == ["the device is lost"] * 2
        failing = False
        assert await batcher.submit([3], soon()) == [3]

    asyncio.run(ask())


def test_whoever_goes_before_the_answer_costs_the_others_nothing(pool: ThreadPoolExecutor) -> None:
    squares = Squares()

    async def ask() -> list[int]:
        batcher = Batcher(squares, LIMITS, pool, seconds=quick)
        gone = asyncio.create_task(batcher.submit([1], soon()))
        stays = asyncio.create_task(batcher.submit([2], soon()))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask()) == [4]
    assert squares.batches in ([[2]], [[1, 2]])
