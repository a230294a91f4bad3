"""Users take turns, each in the order of asking; and a waiting run knows about when it starts."""

from itertools import count

from app.scheduling import Place, Priority, expected_waits, in_order, next_rank


class Queue:
    """Asks and serves as the durable queue does: by rank, then by age."""

    def __init__(self) -> None:
        self.waiting: list[Place] = []
        self.running: list[Place] = []
        self._clock = count()

    def ask(self, user: str, times: int = 1, priority: Priority = "normal") -> None:
        for _ in range(times):
            now = next(self._clock)
            rank = next_rank(self.waiting, self.running, user, priority)
            self.waiting.append(Place(f"{user}{now}", user, rank, now, 1.0))

    def serve(self, times: int = 1) -> str:
        """The users who are served next, one run after the other."""
        served = ""
        for _ in range(times):
            first = in_order(self.waiting)[0]
            self.waiting.remove(first)
            self.running = [first]
            served += first.user
        return served


def test_users_take_turns_however_many_runs_one_has_asked_for() -> None:
    queue = Queue()
    queue.ask("a", 5)
    queue.ask("b", 2)
    queue.ask("c", 1)
    assert queue.serve(8) == "abcabaaa"


def test_a_newcomer_is_served_within_the_turn_that_is_being_served() -> None:
    queue = Queue()
    queue.ask("a", 10)
    queue.ask("b", 10)
    assert queue.serve(8) == "abababab"
    queue.ask("c", 2)
    assert queue.serve(6) == "abcabc"


def test_nobody_makes_up_for_the_time_in_which_he_asked_for_nothing() -> None:
    queue = Queue()
    queue.ask("a", 5)
    assert queue.serve(5) == "aaaaa"
    queue.ask("b", 3)
    queue.ask("a", 3)
    assert queue.serve(6) == "bbabaa"  # the first b in the turn of the a that is being trained


def test_one_users_runs_start_in_the_order_of_asking() -> None:
    queue = Queue()
    queue.ask("a", 4)
    assert [place.run for place in in_order(queue.waiting)] == ["a0", "a1", "a2", "a3"]


def test_high_priority_passes_all_others_and_low_lets_them_pass() -> None:
    queue = Queue()
    queue.ask("a", 2, "low")
    queue.ask("b", 2)
    queue.ask("c", 2, "high")
    queue.ask("d", 1)
    assert queue.serve(7) == "ccbdbaa"


def test_the_largest_difference_between_waiting_users_is_one_run() -> None:
    queue = Queue()
    users = "abcdefghij"
    for number, user in enumerate(users):
        queue.ask(user, 5 + number)
    served = queue.serve(50)
    for length in range(len(served)):
        counts = [served[:length].count(user) for user in users]
        assert max(counts) - min(counts) <= 1


def test_expected_waits_follow_the_order_over_all_workers() -> None:
    running = [Place("r1", "x", 1, 0, 10.0), Place("r2", "x", 1, 0, 4.0)]
    waiting = [Place("w1", "a", 2, 1, 5.0), Place("w2", "b", 2, 2, 3.0), Place("w3", "a", 3, 3, 1.0)]
    assert expected_waits(waiting, running, workers=2) == {"w1": 4.0, "w2": 9.0, "w3": 10.0}
    assert expected_waits(waiting, [], workers=1) == {"w1": 0.0, "w2": 5.0, "w3": 8.0}
    assert expected_waits(waiting, [], workers=0) == {}
