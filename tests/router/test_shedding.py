"""Shedding: who is refused at which load, what load is, and that it forgets."""

from collections.abc import Hashable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.shedding import LoadFactor, Shedder, shed_probability
from tokenfleet.router.queue.waiting import Queue
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.terms import Shedding

LOW, NORMAL, HIGH = Priority


@pytest.mark.parametrize(
    ("load", "low", "normal", "high"),
    [
        pytest.param(0.0, 0, 0, 0, id="no load"),
        pytest.param(0.7, 0, 0, 0, id="up to the start nobody is shed"),
        pytest.param(0.775, 0.5, 0.25, 0, id="low priority is shed twice as fast as normal"),
        pytest.param(0.85, 1, 0.5, 0, id="half-way all of it is shed, and half of normal"),
        pytest.param(0.999, 1, 0.997, 0, id="high priority is kept to the last"),
        pytest.param(1.0, 1, 1, 1, id="from the stop on everyone is shed"),
    ],
)
def test_the_rule(load: float, low: float, normal: float, high: float) -> None:
    shed = [shed_probability(load, start=0.7, stop=1.0, priority=priority) for priority in Priority]
    assert shed == pytest.approx([low, normal, high], abs=1e-3)


LOADS = st.floats(0, 2)
RAMPS = st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)).map(sorted).filter(lambda ramp: ramp[0] + 1e-6 < ramp[1])


@given(ramp=RAMPS, loads=st.tuples(LOADS, LOADS).map(sorted), priority=st.sampled_from(Priority))
def test_it_is_a_probability_and_grows_with_the_load(ramp: list[float], loads: list[float], priority: Priority) -> None:
    lesser, greater = (shed_probability(load, start=ramp[0], stop=ramp[1], priority=priority) for load in loads)
    assert 0 <= lesser <= greater <= 1


@given(ramp=RAMPS, load=LOADS)
def test_it_falls_with_priority_and_low_is_gone_before_high_begins(ramp: list[float], load: float) -> None:
    low, normal, high = (shed_probability(load, start=ramp[0], stop=ramp[1], priority=priority) for priority in Priority)
    assert low >= normal >= high
    assert high == 0 or low == 1
    assert load > ramp[0] or low == 0


class Waiter:
    """One that only fills the queue."""

    def evicted(self, rejected: Rejected) -> None:
        pass


class Bench:
    """A model's queue and load, on a clock that the test moves."""

    def __init__(self, *, max_depth: int = 10, seconds: float = 60) -> None:
        self.now = 0.0
        self.queue: Queue[Waiter] = Queue(lambda: self.now, max_depth=max_depth, seconds=seconds)
        self.load = LoadFactor(self.queue, lambda: self.now)

    def fill(self, count: int, *, priority: Priority = NORMAL, flow: Hashable = "one") -> None:
        for _ in range(count):
            self.queue.join(Waiter(), priority=priority, flow=flow)

    def shed(self, *, times: int = 1000, priority: Priority = NORMAL, flow: Hashable = "one") -> list[Rejected]:
        """Of that many requests, the refusals."""
        shedder, rejections = Shedder(Random(7).random), list[Rejected]()
        for _ in range(times):
            try:
                shedder.check(self.queue, self.load, Shedding(), priority, flow)
            except Rejected as rejected:
                rejections.append(rejected)
        assert shedder.shed[priority] == shedder.shed.total() == len(rejections)
        return rejections


def test_a_model_that_does_not_queue_has_no_load() -> None:
    bench = Bench()
    assert [bench.load.value(priority, "one") for priority in Priority] == [0, 0, 0]
    assert bench.shed() == []


def test_load_is_how_full_the_queue_is_for_this_request() -> None:
    bench = Bench()
    bench.fill(6, flow="many")
    bench.fill(2, priority=HIGH, flow="first")
    assert bench.load.value(LOW, "other") == 0.8
    assert bench.load.value(NORMAL, "many") == 0.8
    assert bench.load.value(NORMAL, "few") == 0.3
    assert bench.load.value(HIGH, "first") == 0.2
    assert bench.load.worst() == 0.8


def test_load_is_how_near_recent_waits_came_to_the_deadline() -> None:
    bench = Bench(seconds=60)
    bench.fill(2, flow="slow")
    bench.now = 45.0
    bench.queue.take()
    assert bench.load.value(NORMAL, "slow") == 0.75
    assert bench.load.value(NORMAL, "other") == 0.1
    assert bench.load.worst() == 0.75
    bench.queue.take()
    assert bench.load.value(NORMAL, "slow") == bench.load.worst() == 0, "nobody waits any more"


def test_load_is_how_near_recent_first_tokens_came_to_their_target() -> None:
    bench = Bench()
    bench.load.first_token(0.2, target=0.5)
    bench.load.first_token(0.4, target=0.5)
    assert bench.load.value(HIGH, "any") == pytest.approx(0.6)
    bench.load.first_token(60.0, target=0.5)
    assert bench.load.value(HIGH, "any") == pytest.approx(2.2 / 3)


@given(
    st.lists(
        st.tuples(st.sampled_from(("join", "take", "leave", "token")), st.sampled_from(Priority), st.floats(0, 30)), max_size=30
    )
)
def test_it_stays_within_its_bounds_grows_towards_low_priority_and_forgets(steps: list[tuple[str, Priority, float]]) -> None:
    bench = Bench(max_depth=5, seconds=20)
    for what, priority, seconds in steps:
        bench.now += seconds
        bench.queue.expire()
        if what == "join" and bench.queue.depth < 5:
            bench.fill(1, priority=priority, flow=priority)
        elif what == "take" and bench.queue.depth:
            bench.queue.take()
        elif what == "leave" and (ticket := bench.queue.first()) is not None:
            bench.queue.leave(ticket)
        elif what == "token":
            bench.load.first_token(seconds, target=10)
        loads = [bench.load.value(priority, "newcomer") for priority in Priority]
        assert loads == sorted(loads, reverse=True)
        assert all(0 <= load <= 1 for load in loads)
    before = bench.load.first_tokens.value(bench.now), *(bench.queue.recent_wait(priority) for priority in Priority)
    for _ in range(8):
        bench.now += 10
        after = bench.load.first_tokens.value(bench.now), *(bench.queue.recent_wait(priority) for priority in Priority)
        assert all(late < early or early == late == 0 for early, late in zip(before, after, strict=True))
        before = after
    assert before == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("waiting", "priority", "least", "most"),
    [
        pytest.param(70, NORMAL, 0, 0, id="none at the start"),
        pytest.param(85, NORMAL, 450, 550, id="about half of them half-way"),
        pytest.param(85, LOW, 1000, 1000, id="all of low priority half-way"),
        pytest.param(99, NORMAL, 950, 990, id="nearly all just below the bound"),
        pytest.param(99, HIGH, 0, 0, id="none of high priority, which goes before those who wait"),
        pytest.param(100, NORMAL, 0, 0, id="a full queue decides itself"),
    ],
)
def test_the_lot_falls_as_often_as_the_rule_says(waiting: int, priority: Priority, least: int, most: int) -> None:
    bench = Bench(max_depth=100)
    bench.fill(waiting)
    assert least <= len(bench.shed(priority=priority)) <= most


def test_a_key_that_floods_the_queue_is_shed_and_its_neighbour_is_not() -> None:
    bench = Bench(max_depth=100)
    bench.fill(95, flow="flood")
    assert len(bench.shed(flow="flood")) > 800
    assert bench.shed(flow="neighbour") == []


def test_the_refused_are_told_different_times_to_come_again() -> None:
    bench = Bench(max_depth=100)
    bench.fill(95)
    refused = bench.shed()
    assert refused[0].kind.reason == "overloaded"
    assert refused[0].message.startswith("This model is overloaded (load 0.95; from 0.7 on requests are refused by chance).")
    after = {rejected.retry_after or 0 for rejected in refused}
    assert 5 <= min(after) <= 6
    assert 14 <= max(after) <= 15
    assert len(after) > 8


def test_a_target_sheds_also_where_there_is_no_queue() -> None:
    bench = Bench(max_depth=0)
    bench.load.first_token(9.0, target=1)
    assert len(bench.shed(priority=HIGH)) == 1000
    bench.now = 2.0
    assert 300 < len(bench.shed()) < 500
    assert bench.shed(priority=HIGH) == []
