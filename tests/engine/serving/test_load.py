"""Load, the wait that is to be expected, and when to try again."""

import pytest

from tokenfleet_engine.serving.bounds import Bounds
from tokenfleet_engine.serving.load import Figures, Load, Queue, Rate, assess, explain, retry_after

BOUNDS = Bounds(in_flight=10, waiting=4, queue_seconds=2)


@pytest.mark.parametrize(
    ("figures", "factor", "bound"),
    [
        pytest.param(Figures(0), 0, "in_flight", id="idle"),
        pytest.param(Figures(5, 1), 0.5, "in_flight", id="half of what it takes"),
        pytest.param(Figures(5, 3), 0.75, "waiting", id="the queue is nearer to its bound"),
        pytest.param(Figures(5, 3, 3.0), 1.5, "queue_seconds", id="few wait, but each for long"),
        pytest.param(Figures(10), 1.0, "in_flight", id="the last place is taken"),
    ],
)
def test_load_is_the_nearest_bound(figures: Figures, factor: float, bound: str) -> None:
    load = assess(figures, BOUNDS)
    assert load == Load(factor, bound)
    assert load.full is (factor >= 1)


def test_without_bounds_nothing_is_load() -> None:
    assert assess(Figures(10_000, 5_000, 60.0), Bounds()).factor == 0


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        pytest.param(Figures(10), "has 10 requests in flight and takes 10", id="in flight"),
        pytest.param(Figures(9, 4), "4 requests wait in this replica's queue and 4 may", id="waiting"),
        pytest.param(Figures(9, 3, 2.26), "would wait 2.3 s in this replica's queue and may 2 s", id="seconds"),
    ],
)
def test_a_refusal_says_which_bound_was_reached(figures: Figures, words: str) -> None:
    assert words in explain(assess(figures, BOUNDS), figures, BOUNDS)


@pytest.mark.parametrize(
    ("waiting", "per_second", "seconds"),
    [
        pytest.param(0, 4.0, 1, id="nobody waits: as soon as one ends"),
        pytest.param(10, 4.0, 3, id="ten wait and four end each second"),
        pytest.param(1000, 4.0, 30, id="never longer than half a minute"),
        pytest.param(3, 0.0, 5, id="nothing has ended of late, so nobody knows"),
        pytest.param(3, 0.05, 30, id="one in twenty seconds"),
        pytest.param(0, 1000.0, 1, id="never at once"),
    ],
)
def test_retry_after(waiting: float, per_second: float, seconds: int) -> None:
    assert retry_after(Figures(20, waiting), ended_per_second=per_second) == seconds


def test_a_rate_is_right_from_the_start_and_forgets() -> None:
    rate = Rate(0.0)
    for tick in range(1, 21):
        rate.mark(tick / 4)
    assert rate.per_second(5.0) == pytest.approx(4, rel=0.1)
    assert rate.per_second(65.0) < 0.05


def test_a_rate_of_nothing_is_nothing() -> None:
    assert Rate(0.0).per_second(0.0) == Rate(0.0).per_second(9.0) == 0


def test_a_wait_is_how_many_wait_by_how_fast_they_are_begun() -> None:
    queue = Queue()
    for tick in range(100):
        seconds = queue.look(tick * 0.1, waiting=6, begun=tick * 0.3)
    assert seconds == pytest.approx(6 / 3, rel=0.1)


def test_a_burst_into_an_idle_engine_is_no_wait() -> None:
    queue = Queue()
    queue.look(0.0, waiting=0, begun=0)
    assert queue.look(60.0, waiting=50, begun=0) == 0, "nobody waited in that minute"
    assert queue.look(60.1, waiting=50, begun=0) == pytest.approx(50 * 0.1), "a tenth of a second for none, so far"
    assert queue.look(60.2, waiting=30, begun=20) < 1


def test_a_queue_that_does_not_move_grows_longer() -> None:
    queue = Queue()
    waits = [queue.look(float(second), waiting=3, begun=7) for second in range(6)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(3 * 5, rel=0.3)


def test_what_passed_while_nobody_waited_does_not_count() -> None:
    queue = Queue()
    queue.look(0.0, waiting=5, begun=0)
    queue.rest()
    assert queue.look(500.0, waiting=5, begun=3) == 0


def test_an_engine_that_began_again_from_zero_is_no_engine_that_goes_backwards() -> None:
    queue = Queue()
    queue.look(0.0, waiting=1, begun=1000)
    assert queue.look(1.0, waiting=1, begun=0) == pytest.approx(1, rel=0.1)
