"""The fleet in the small: what goes in comes out, and it takes the time that it should."""

import pytest

from tokenfleet.planning.scaling import Policy, Scaler, Signal
from tokenfleet.planning.scaling.simulation import Engine, Fleet, Queue, Request, Rule, simulate

ENGINE = Engine(places=2, start_seconds=10, prefill_seconds=0.1, token_seconds=0.01, token_seconds_each=0.01)
"""One request gets 50 tokens a second, and each of two 33."""


def always(count: int) -> Rule:
    return lambda now, signal: count


def fleet(replicas: int, **queue: float) -> Fleet:
    return Fleet(ENGINE, Queue(**queue), replicas=replicas, promise_seconds=1)  # type: ignore[arg-type]


def run(one: Fleet, begin: float, end: float) -> None:
    for step in range(round(begin * 10) + 1, round(end * 10) + 1):
        one.step(step / 10)


def test_a_request_gets_its_tokens_at_the_speed_of_the_batch() -> None:
    one = fleet(1)
    one.arrive(Request(0.0, 100))
    run(one, 0, 1.9)
    assert one.signal(1.9).in_flight == 1
    run(one, 1.9, 2.2)
    assert one.signal(2.2).in_flight == 0
    both = fleet(1)
    both.arrive(Request(0.0, 100))
    both.arrive(Request(0.0, 100))
    run(both, 0, 2.9)
    assert both.signal(2.9).in_flight == 2
    run(both, 2.9, 3.2)
    assert both.signal(3.2).in_flight == 0


def test_who_has_no_place_waits_and_not_for_ever() -> None:
    one = fleet(1, depth=2, timeout_seconds=5)
    for _ in range(6):
        one.arrive(Request(0.0, 1000))
    one.step(0.1)
    assert (one.signal(0.1).waiting, one.outcome.refused) == (0, 4), "two came to a full queue before it was looked at"
    for _ in range(3):
        one.arrive(Request(0.2, 1000))
    one.step(0.2)
    assert (one.signal(0.2).waiting, one.outcome.refused) == (2, 5)
    run(one, 0.2, 6)
    assert (one.signal(6).waiting, one.outcome.refused, one.outcome.kept) == (0, 7, 2)


def test_a_new_replica_takes_its_time_and_one_that_leaves_ends_its_requests() -> None:
    one = fleet(1)
    one.arrive(Request(0.0, 500))
    one.step(0.1)
    one.scale(2, 0.1)
    assert (one.signal(5).ready, one.signal(5).starting) == (1, 1)
    assert one.signal(10.2).ready == 2
    one.scale(0, 5.0)
    seen = one.signal(5.0)
    assert (seen.ready, seen.starting, seen.in_flight) == (0, 0, 1)
    one.scale(1, 5.1)
    assert one.signal(5.1).ready == 1, "the goodbye was taken back"
    one.scale(0, 5.2)
    run(one, 5.2, 20)
    assert one.signal(20).in_flight == 0


def test_what_is_counted() -> None:
    requests = [Request(at / 2, 10) for at in range(20)]
    outcome = simulate(requests, always(1), seconds=20, replicas=1, promise_seconds=1, engine=ENGINE)
    assert (outcome.kept, outcome.late, outcome.refused) == (20, 0, 0)
    assert outcome.attainment == 1
    assert outcome.replica_hours == pytest.approx(20 / 3600)
    assert len(outcome.moments) == 2
    late = simulate(requests, always(1), seconds=20, replicas=1, promise_seconds=0.05, engine=ENGINE)
    assert late.attainment == 0


def test_ours_follows_a_load_up_and_down_and_to_sleep() -> None:
    policy = Policy(min_replicas=0, max_replicas=4, max_in_flight=2, stabilization_seconds=30, scale_to_zero_seconds=60)
    scaler = Scaler(policy, desired=1, now=0)
    seen: list[int] = []

    def rule(now: float, signal: Signal) -> int:
        seen.append(scaler.decide(signal, now=now).desired)
        return seen[-1]

    requests = [Request(at / 2, 100) for at in range(200)]
    outcome = simulate(
        requests, rule, seconds=300, replicas=1, promise_seconds=30, engine=ENGINE, queue=Queue(timeout_seconds=100)
    )
    assert max(seen) == 4
    assert seen[-1] == 0
    assert outcome.kept > 180
