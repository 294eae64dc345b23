"""What holds for every load: bounds, no flapping, more load never fewer replicas, nothing taken away blindly."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenfleet.planning.scaling import REASONS, Decision, Policy, Scaler, Schedule, Signal, reasons

WINDOW = 60.0
quickly = settings(max_examples=40, deadline=None)
BY_LOAD = {reasons.LOAD_FELL}

policies = st.builds(
    lambda least, more, depth, concurrency, places, zero, ttft: Policy(
        min_replicas=0 if zero else least,
        max_replicas=least + more,
        queue_depth=depth,
        concurrency=concurrency,
        max_in_flight=places,
        ttft_seconds=ttft,
        stabilization_seconds=WINDOW,
        scale_to_zero_seconds=zero,
    ),
    st.integers(1, 4),
    st.integers(0, 8),
    st.integers(1, 10),
    st.none() | st.integers(1, 20),
    st.integers(1, 64),
    st.none() | st.floats(10, 300),
    st.none() | st.just(1.0),
)
signals = st.builds(
    Signal,
    waiting=st.integers(0, 200),
    in_flight=st.integers(0, 200),
    ready=st.integers(0, 12),
    starting=st.integers(0, 6),
    pending=st.integers(0, 6),
    idle_seconds=st.none() | st.floats(0, 1000),
    ttft_p95=st.none() | st.floats(0, 3),
)
steps = st.lists(st.tuples(st.floats(0.1, 120), st.none() | signals, st.none() | st.integers(0, 12)), min_size=1, max_size=25)
Steps = Sequence[tuple[float, Signal | None, int | None]]


def play(scaler: Scaler, told: Steps, *, now: float = 0.0) -> list[tuple[float, int, Decision]]:
    """Time, the count before, and the decision, for each step."""
    said = []
    for wait, signal, budget in told:
        now += wait
        before = scaler.desired
        said.append((now, before, scaler.decide(signal, now=now, budget=budget)))
    return said


@quickly
@given(policies, steps)
def test_the_bounds_are_kept(policy: Policy, told: Steps) -> None:
    scaler = Scaler(policy, desired=policy.min_replicas, now=0)
    for (_, before, decision), (_, _, budget) in zip(play(scaler, told), told, strict=True):
        assert policy.min_replicas <= decision.desired <= policy.max_replicas
        assert decision.reason in REASONS
        assert decision.message.endswith(".")
        if budget is not None and decision.desired > before:
            assert decision.desired <= budget


@quickly
@given(policies, steps)
def test_steps_down_by_load_are_a_window_apart(policy: Policy, told: Steps) -> None:
    scaler = Scaler(policy, desired=policy.max_replicas, now=0)
    last = 0.0
    for now, before, decision in play(scaler, told):
        if decision.reason in BY_LOAD and decision.desired < before:
            assert now >= last + WINDOW - 1e-3
            last = now
        if decision.desired > before:
            last = now


@quickly
@given(policies, steps, st.integers(0, 12))
def test_a_missing_signal_never_lowers(policy: Policy, told: Steps, desired: int) -> None:
    scaler = Scaler(policy, desired=desired, now=0)
    for (_, before, decision), (_, signal, _) in zip(play(scaler, told), told, strict=True):
        if signal is None:
            assert decision.desired >= before


@quickly
@given(policies, steps, signals, st.integers(0, 100), st.integers(0, 100))
def test_more_load_never_asks_for_fewer(policy: Policy, told: Steps, signal: Signal, more: int, running: int) -> None:
    light, heavy = (Scaler(policy, desired=policy.min_replicas, now=0) for _ in range(2))
    for scaler in (light, heavy):
        play(scaler, told)
    now = sum(wait for wait, *_ in told) + 1
    loaded = replace(signal, waiting=signal.waiting + more, in_flight=signal.in_flight + running)
    assert heavy.decide(loaded, now=now).desired >= light.decide(signal, now=now).desired


@quickly
@given(policies, steps)
def test_the_same_story_has_the_same_end(policy: Policy, told: Steps) -> None:
    first, second = (play(Scaler(policy, desired=3, now=0), told) for _ in range(2))
    assert first == second


@quickly
@given(policies, steps, signals)
def test_deciding_twice_at_one_time_is_deciding_once(policy: Policy, told: Steps, signal: Signal) -> None:
    scaler = Scaler(policy, desired=3, now=0)
    now = play(scaler, told)[-1][0] + 1
    assert scaler.decide(signal, now=now).desired == scaler.decide(signal, now=now).desired


@quickly
@given(policies, steps, signals, st.floats(0.01, 0.99))
def test_nothing_happens_before_the_next_look(policy: Policy, told: Steps, signal: Signal, part: float) -> None:
    scaler = Scaler(policy, desired=3, now=0)
    now = play(scaler, told)[-1][0] + 1
    before = scaler.decide(signal, now=now)
    look = 10_000.0 if scaler.next_look is None else scaler.next_look
    assert look > 0
    later = signal if signal.idle_seconds is None else replace(signal, idle_seconds=signal.idle_seconds + part * look)
    assert scaler.decide(later, now=now + part * look).desired == before.desired


@quickly
@given(policies, policies, steps, signals, st.integers(0, 20))
def test_another_policy_or_count_in_the_middle_leaves_a_sound_state(
    policy: Policy, other: Policy, told: Steps, signal: Signal, count: int
) -> None:
    scaler = Scaler(policy, desired=3, now=0)
    now = play(scaler, told)[-1][0]
    scaler.adopt(other)
    assert other.min_replicas <= scaler.decide(signal, now=now + 1).desired <= other.max_replicas
    scaler.restart(count, now=now + 2)
    assert scaler.desired == min(max(count, other.min_replicas), other.max_replicas)
    play(scaler, told, now=now + 2)


@quickly
@given(policies, st.integers(0, 300), st.integers(1, 12))
def test_a_constant_load_comes_to_rest(policy: Policy, load: int, desired: int) -> None:
    """In a fleet that gives a request to every replica that has a place, and gets its replicas half a minute late."""
    scaler = Scaler(policy, desired=desired, now=0)
    seen, serving = [], [(0.0, desired)]
    for second in range(0, 1500, 5):
        ready = next(count for at, count in reversed(serving) if at <= second)
        ready = min(ready, scaler.desired)
        running = min(load, ready * policy.max_in_flight)
        signal = Signal(
            waiting=load - running,
            in_flight=running,
            ready=ready,
            starting=scaler.desired - ready,
            idle_seconds=0.0 if load else float(second),
        )
        decision = scaler.decide(signal, now=second)
        if decision.desired != serving[-1][1]:
            serving.append((second + 30.0 if decision.desired > ready else second, decision.desired))
        seen.append(decision.desired)
    assert len(set(seen[200:])) == 1, seen
    turns = [after > before for before, after in pairwise(seen) if after != before]
    assert sum(one != other for one, other in pairwise(turns)) <= 1, "up and then down, or one of them"


@quickly
@given(st.integers(20, 200), st.lists(st.floats(-0.05, 0.05), min_size=300, max_size=300))
def test_noise_of_five_percent_does_not_flap(load: int, noise: list[float]) -> None:
    policy = Policy(min_replicas=1, max_replicas=30, concurrency=10, stabilization_seconds=WINDOW)
    scaler = Scaler(policy, desired=1, now=0)
    counts = [1]
    for second, part in enumerate(noise):
        running = round(load * (1 + part))
        signal = Signal(waiting=0, in_flight=running, ready=counts[-1])
        counts.append(scaler.decide(signal, now=second).desired)
    falls = sum(after < before for before, after in pairwise(counts))
    assert falls == 0
    assert counts[-1] <= ceil(load * 1.05 / 10) + 1


@quickly
@given(
    st.floats(0, 4e9), st.sampled_from(["UTC", "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"])
)
def test_some_schedule_always_holds(now: float, zone: str) -> None:
    schedules = tuple(
        Schedule(cron=cron, timezone=zone, min_replicas=least)
        for cron, least in (("30 2 * * *", 2), ("0 8 * * 1-5", 3), ("15 2 * * 0", 4))
    )
    scaler = Scaler(Policy(min_replicas=1, max_replicas=9, schedules=schedules), desired=1, now=now)
    assert scaler.decide(Signal(waiting=0, in_flight=0, ready=1), now=now).desired in (2, 3, 4)
    assert scaler.next_look is not None
    assert 0 < scaler.next_look <= 25 * 3600
