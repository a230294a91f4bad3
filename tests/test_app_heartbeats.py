"""A worker is dead when its beat stands still while the database is within reach; nothing else makes it look so."""

from app.database import Database
from app.heartbeats import Heartbeats, Watch


def test_a_beat_that_stands_still_for_the_dead_time_is_dead() -> None:
    watch = Watch(dead_seconds=4)
    looks = [watch.dead({"still": 7, "alive": second}, second) for second in range(10)]
    assert looks == [[]] * 4 + [["still"]] * 6


def test_a_beat_that_goes_on_at_last_is_alive() -> None:
    watch = Watch(dead_seconds=4)
    assert [watch.dead({"slow": second // 3}, second) for second in range(20)] == [[]] * 20


def test_a_database_that_was_away_makes_nobody_dead() -> None:
    watch = Watch(dead_seconds=4)
    for second in range(4):
        watch.dead({"still": 0}, second)
    watch.forget()
    assert [watch.dead({"still": 0}, second) for second in range(4, 9)] == [[], [], [], [], ["still"]]


def test_who_slept_itself_begins_to_look_anew() -> None:
    for woke in (4, 1_000):
        watch = Watch(dead_seconds=4)
        looks = [watch.dead({"still": 0}, second) for second in (0, 1, woke, woke + 1)]
        assert looks == [[]] * 4


def test_who_left_and_came_back_has_the_whole_time_again() -> None:
    watch = Watch(dead_seconds=4)
    for second in range(4):
        watch.dead({"other": second, "still": 0}, second)
    watch.dead({"other": 4}, 4)
    assert watch.dead({"other": 5, "still": 0}, 5) == []


def test_beats_are_counted_until_the_worker_leaves_or_is_buried(database: Database) -> None:
    heartbeats = Heartbeats(database)
    heartbeats.join("host/0", "host", 0, "CPU")
    heartbeats.join("host/1", "host", 1, "CPU")
    assert heartbeats.beat("host/0")
    assert heartbeats.beat("host/0")
    assert heartbeats.counts() == {"host/0": 2, "host/1": 0}
    heartbeats.leave("host/0")
    assert not heartbeats.beat("host/0")
    assert heartbeats.counts() == {"host/1": 0}
