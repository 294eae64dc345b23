"""Outliers: what ejects a replica, for how long, how it comes back, and how many may be out at once."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.router.test_replicas import Clock, names, seen
from tokenfleet.router.balancing.outliers import BASE_SECONDS, CAP_SECONDS, CONSECUTIVE, STEADY, Conduct
from tokenfleet.router.balancing.replica import SLOW_START_SECONDS, Replica, State
from tokenfleet.router.balancing.replicas import Replicas


def outcomes(conduct: Conduct, text: str) -> bool:
    """Feed it outcomes, `x` for a failure and `.` for a success; whether the last one ejects."""
    due = False
    for outcome in text:
        due = outcome == "x" and conduct.failed()
        if outcome == ".":
            conduct.succeeded()
    return due


@pytest.mark.parametrize(
    ("text", "due"),
    [
        pytest.param("xx", False, id="two in a row"),
        pytest.param("xxx", True, id="three in a row"),
        pytest.param("xx.x.xx", False, id="a few now and then"),
        pytest.param("." * 1000 + "xxx", True, id="three in a row after a long good time"),
        pytest.param("xx." * 10 + "xx", True, id="two of three fail"),
        pytest.param("x..." * 100 + "x", False, id="one of four fails"),
    ],
)
def test_what_ejects(text: str, due: bool) -> None:
    assert outcomes(Conduct(), text) is due


def again(conduct: Conduct, times: int) -> list[float]:
    """Eject and readmit it so often; the seconds."""
    lasted = []
    for _ in range(times):
        lasted.append(conduct.eject(100.0))
        conduct.readmit()
    return lasted


def test_an_ejection_doubles_up_to_the_cap() -> None:
    lasted = again(Conduct(), 9)
    assert lasted[:4] == [BASE_SECONDS, 2 * BASE_SECONDS, 4 * BASE_SECONDS, 8 * BASE_SECONDS]
    assert lasted[-1] == CAP_SECONDS


def test_success_makes_the_next_one_shorter_by_degrees() -> None:
    conduct = Conduct()
    again(conduct, 3)
    outcomes(conduct, "." * (STEADY - 1))
    assert conduct.eject(0.0) == 8 * BASE_SECONDS
    conduct.readmit()
    outcomes(conduct, "." * STEADY * 3)
    assert conduct.eject(0.0) == 2 * BASE_SECONDS
    conduct.readmit()
    outcomes(conduct, "." * STEADY * 100)
    assert conduct.eject(0.0) == BASE_SECONDS


def test_however_often_it_was_ejected_success_counts() -> None:
    conduct = Conduct()
    again(conduct, 50)
    outcomes(conduct, "." * STEADY)
    assert conduct.eject(0.0) < CAP_SECONDS


def test_a_row_of_successes_that_is_broken_begins_anew() -> None:
    conduct = Conduct()
    again(conduct, 2)
    outcomes(conduct, ("." * (STEADY - 1) + "x") * 5)
    assert conduct.eject(0.0) == 4 * BASE_SECONDS


def test_on_probation_the_first_outcome_decides() -> None:
    conduct = Conduct()
    again(conduct, 1)
    assert outcomes(conduct, "x") is True
    again(conduct, 1)
    assert outcomes(conduct, ".xx") is False


def test_what_fails_while_it_is_ejected_adds_nothing() -> None:
    conduct = Conduct()
    conduct.eject(0.0)
    assert outcomes(conduct, "x" * 50) is False
    conduct.readmit()
    assert outcomes(conduct, ".xx") is False


# --- Among others


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fleet(clock: Clock, *keys: str) -> tuple[Replicas, list[Replica]]:
    replicas = Replicas(clock=clock)
    replicas.observe([seen(key) for key in keys])
    return replicas, replicas.all()


def fail(replica: Replica, times: int = CONSECUTIVE) -> None:
    for _ in range(times):
        replica.failed("connect")


def test_an_ejected_replica_gets_nothing_until_its_time_is_over(clock: Clock) -> None:
    replicas, (a, _) = fleet(clock, "a", "b")
    fail(a)
    assert (a.ejected, replicas.ejections) == (True, {"connect": 1})
    assert names(replicas, 4) == {"pod-b"}
    clock.now += BASE_SECONDS - 0.01
    assert names(replicas, 4) == {"pod-b"}
    clock.now += 0.02 + SLOW_START_SECONDS
    assert names(replicas, 4) == {"pod-a", "pod-b"}
    assert not a.ejected


def test_it_comes_back_slowly_and_goes_at_its_first_failure_for_twice_as_long(clock: Clock) -> None:
    replicas, (a, b) = fleet(clock, "a", "b")
    fail(a)
    clock.now += BASE_SECONDS
    leases = [replicas.lease() for _ in range(10)]
    assert (a.in_flight, b.in_flight) == (1, 9)
    fail(a, 1)
    assert a.ejected
    clock.now += 2 * BASE_SECONDS - 0.5
    leases += [replicas.lease() for _ in range(10)]
    assert (a.in_flight, b.in_flight) == (1, 19)


@pytest.mark.parametrize(
    ("count", "most"),
    [
        pytest.param(1, 0, id="the only one stays"),
        pytest.param(2, 1, id="one of two"),
        pytest.param(3, 1, id="one of three"),
        pytest.param(8, 4, id="half of eight"),
    ],
)
def test_half_of_them_at_most_are_ejected(clock: Clock, count: int, most: int) -> None:
    replicas, every = fleet(clock, *map(str, range(count)))
    for replica in every:
        fail(replica, 10)
    assert [replica.ejected for replica in every] == [True] * most + [False] * (count - most)
    assert len(names(replicas, count * 3)) == count - most


def test_with_everything_ejected_all_are_used(clock: Clock) -> None:
    replicas, (a, b, *_) = fleet(clock, "a", "b", "c", "d")
    fail(a)
    fail(b)
    replicas.observe([seen("a"), seen("b"), seen("c", State.DRAINING)])
    assert names(replicas, 4) == {"pod-a", "pod-b"}
    assert not (a.ejected or b.ejected)


def test_when_good_ones_go_no_more_than_half_stay_ejected(clock: Clock) -> None:
    replicas, (a, b, *_) = fleet(clock, "a", "b", "c", "d")
    fail(a)
    clock.now += 1
    fail(b)
    replicas.observe([seen("a"), seen("b"), seen("c")])
    assert (a.ejected, b.ejected) == (False, True)


def test_a_request_that_all_others_have_had_may_try_an_ejected_one(clock: Clock) -> None:
    replicas, (a, b) = fleet(clock, "a", "b")
    fail(a)
    lease = replicas.lease(exclude=(b,))
    assert lease is not None
    assert lease.replica is a
    assert replicas.lease(exclude=(a, b)) is None


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda replicas: replicas.observe([seen("a", State.DRAINING), seen("b"), seen("c")]), id="draining"),
        pytest.param(lambda replicas: replicas.observe([seen("b"), seen("c")]), id="gone"),
    ],
)
def test_one_that_gets_nothing_anyway_is_not_ejected(clock: Clock, leave: Callable[[Replicas], None]) -> None:
    replicas, (a, *_) = fleet(clock, "a", "b", "c")
    leave(replicas)
    fail(a)
    assert (a.ejected, replicas.ejections) == (False, {})


def test_who_waits_for_room_hears_of_the_end_of_an_ejection(clock: Clock) -> None:
    replicas, (a, b) = fleet(clock, "a", "b")
    replicas.configure("LeastConnections", max_in_flight=1)
    fail(a)
    lease = replicas.lease()
    assert lease is not None
    assert (lease.replica, replicas.full) == (b, True)
    granted = []
    replicas.freed = lambda: granted.append(replicas.lease())
    while clock.now < 100 + BASE_SECONDS:
        clock.now = replicas.deadline
        replicas.expire()
    assert [place.replica for place in granted if place is not None] == [a]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("x.")), max_size=200), st.integers(1, 6))
def test_whatever_fails_half_of_them_stay_and_the_time_that_is_over_counts(events: list[tuple[int, str]], count: int) -> None:
    clock = Clock()
    replicas, every = fleet(clock, *map(str, range(count)))
    for which, outcome in events:
        replica = every[which % count]
        replica.failed("lost") if outcome == "x" else replica.succeeded()
        clock.now += 0.3
        place = replicas.lease()
        assert place is not None
        assert not place.replica.ejected
        place.release()
        assert sum(one.ejected for one in every) <= count // 2
    clock.now += CAP_SECONDS + 1
    replicas.expire()
    assert not any(one.ejected for one in every)
    clock.now += SLOW_START_SECONDS + 1
    replicas.expire()
    clock.now = replicas.deadline if replicas.deadline < float("inf") else clock.now
    replicas.expire()
    assert replicas.deadline == float("inf")


def test_one_that_was_not_ready_and_is_again_is_as_good_as_new() -> None:
    """Whatever was wrong with it: its container was restarted in place, or it would not be ready again."""
    clock = Clock()
    replicas = Replicas(clock=clock)
    replicas.observe([seen("a"), seen("b")])
    first = replicas.all()[0]
    for _ in range(CONSECUTIVE):
        first.failed("lost")
    first.pause()
    assert (first.ejected, first.paused) == (True, True)
    replicas.observe([seen("a", State.UNREADY), seen("b")])
    replicas.observe([seen("a"), seen("b")])
    assert (first.ejected, first.paused, replicas.all()[0] is first) == (False, False, True)
    assert first.conduct.eject(0.0) == BASE_SECONDS, "nor is it remembered that it was ejected before"
