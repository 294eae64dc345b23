"""The rules that ours is compared with do what their documents say."""

import pytest

from e2e.bench.scaling_patterns import PATTERNS
from e2e.bench.scaling_rivals import Hpa, Keda, load
from tokenfleet.planning.scaling import Signal


def depth(waiting: int, in_flight: int = 0) -> Signal:
    return Signal(waiting=waiting, in_flight=in_flight, ready=1)


def counts(rule: Hpa | Keda, waiting: int, *, begin: int, end: int, in_flight: int = 0) -> list[int]:
    """One for each second."""
    return [rule(second, depth(waiting, in_flight)) for second in range(begin, end)]


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        pytest.param(21, 4, id="within a tenth of five for each: nothing"),
        pytest.param(23, 5, id="above it: as many as have five each"),
        pytest.param(20, 4, id="just as it should be"),
    ],
)
def test_hpa_tolerates_a_tenth(waiting: int, expected: int) -> None:
    assert counts(Hpa(least=1, most=20, replicas=4), waiting, begin=0, end=40)[-1] == expected


def test_hpa_adds_four_pods_or_as_many_again_each_quarter_of_a_minute() -> None:
    seen = counts(Hpa(least=1, most=30, replicas=1), 1000, begin=0, end=90)
    assert sorted(set(seen)) == [1, 5, 10, 20, 30]
    assert [seen.index(count) for count in (5, 10, 20, 30)] == [15, 30, 45, 60]


def test_hpa_goes_down_after_five_minutes_and_all_the_way() -> None:
    rule = Hpa(least=1, most=30, replicas=6)
    counts(rule, 30, begin=0, end=60)
    seen = counts(rule, 0, begin=60, end=500)
    assert set(seen) == {6, 1}
    assert 300 <= seen.index(1) <= 330


def test_hpa_looks_at_a_gauge_of_its_last_scrape() -> None:
    rule = Hpa(least=1, most=30, replicas=1)
    counts(rule, 0, begin=0, end=8)
    assert counts(rule, 100, begin=8, end=23)[-1] == 1
    assert counts(rule, 100, begin=23, end=31)[-1] == 5


def test_hpa_may_go_by_all_that_runs_and_waits() -> None:
    rule = Hpa(least=1, most=30, replicas=4, average=20, gauge=load)
    assert counts(rule, 10, in_flight=100, begin=0, end=40)[-1] == 6


def test_keda_wakes_at_its_next_poll_and_sleeps_after_its_cooldown() -> None:
    rule = Keda(least=0, most=10, replicas=1)
    seen = counts(rule, 0, begin=0, end=400)
    assert seen.index(0) == 300
    seen = counts(rule, 1, begin=400, end=500)
    assert seen.index(1) == 20
    assert 0 not in counts(rule, 0, in_flight=1, begin=500, end=1500), "it is busy"


def test_a_pattern_is_the_same_each_time_and_as_busy_as_it_says() -> None:
    step = PATTERNS[0]
    requests = step.requests()
    assert requests == step.requests()
    before = sum(request.at < 900 for request in requests)
    assert before == pytest.approx(3600, rel=0.1)
    assert sum(900 <= request.at < 2700 for request in requests) == pytest.approx(28 * 1800, rel=0.05)
    assert sum(request.tokens for request in requests) / len(requests) == pytest.approx(200, rel=0.05)
