"""When a try has shown enough: the bounds, how often they are wrong, and samples that say less than there are of them."""

from math import comb, inf, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as any_of

from tokenfleet.planning.tuning import Objective, Seen, judge, observe, shares_around
from tokenfleet.planning.tuning.beta import share_below
from tokenfleet.planning.tuning.confidence import fewest_samples, least_within, met, missed, most_within

TTFT = Objective(metric="ttft", limit=1.0, percentile=95)
ITL = Objective(metric="itl", limit=0.05, percentile=95)
GOOD, LATE = Seen(1, 1), Seen(0, 1)


@given(any_of.floats(0.001, 0.999), any_of.integers(1, 60), any_of.integers(1, 60))
def test_the_incomplete_beta_function_is_a_binomial_s_tail(x: float, a: int, b: int) -> None:
    """For whole numbers: I_x(a, b) is the chance of at least a successes of a + b - 1 (DLMF 8.17.5)."""
    count = a + b - 1
    tail = sum(comb(count, number) * x**number * (1 - x) ** (count - number) for number in range(a, count + 1))
    assert share_below(x, a, b) == pytest.approx(tail, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("percentile", "fewest"),
    [
        pytest.param(50, 7, id="p50"),
        pytest.param(90, 43, id="p90"),
        pytest.param(95, 88, id="p95"),
        pytest.param(99, 449, id="p99"),
    ],
)
def test_so_many_requests_must_all_be_in_time_at_least(percentile: float, fewest: int) -> None:
    assert fewest_samples(share=percentile / 100, alpha=0.05) == fewest


@given(any_of.integers(1, 400), any_of.floats(0.5, 0.99))
def test_the_bounds_are_where_the_test_turns(total: int, share: float) -> None:
    least, most = least_within(total, share=share, alpha=0.05), most_within(total, share=share, alpha=0.05)
    assert most < least
    if least != inf:
        assert met(min(total, least + 1e-6), total, share=share, alpha=0.05)
        assert not met(least - 1e-3, total, share=share, alpha=0.05)
    if most != -inf:
        assert missed(max(0.0, most - 1e-6), total, share=share, alpha=0.05)
        assert not missed(most + 1e-3, total, share=share, alpha=0.05)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95])
def test_who_looks_after_every_request_is_wrong_no_more_often_than_allowed(share: float) -> None:
    """At the limit itself, where either answer would be wrong: one in twenty each, and three deviations of that count."""
    chance, runs, wrong = Random(7), 200, {"met": 0, "missed": 0}
    for _ in range(runs):
        within = 0
        for total in range(1, 201):
            within += chance.random() < share
            if met(within, total, share=share, alpha=0.05):
                wrong["met"] += 1
                break
            if missed(within, total, share=share, alpha=0.05):
                wrong["missed"] += 1
                break
    most = 0.05 * runs + 3 * sqrt(0.05 * 0.95 * runs)
    assert wrong["met"] <= most
    assert wrong["missed"] <= most


@pytest.mark.parametrize(
    ("seen", "concurrency", "verdict", "over"),
    [
        pytest.param([GOOD] * 88, 8, "met", True, id="enough, and all in time"),
        pytest.param([GOOD] * 87, 8, "unclear", False, id="one too few"),
        pytest.param([GOOD] * 88, 32, "unclear", False, id="enough, but not every place was taken four times"),
        pytest.param([GOOD] * 128, 32, "met", True, id="every place was taken four times"),
        pytest.param([LATE] * 8, 8, "missed", True, id="all late: eight are enough"),
        pytest.param([LATE] * 7, 8, "unclear", False, id="all late, but not one turn of all places yet"),
        pytest.param([GOOD, GOOD, LATE] * 20, 8, "missed", True, id="a third late"),
        pytest.param([GOOD] * 16 + [LATE] + [GOOD] * 2, 1, "unclear", False, id="one late of nineteen"),
        pytest.param(([GOOD] * 19 + [LATE]) * 20, 1, "unclear", True, id="right at the limit, and no more requests"),
        pytest.param(([GOOD] * 15 + [LATE]) * 19, 1, "unclear", True, id="met no more, however good the rest would be"),
        pytest.param([], 1, "unclear", False, id="nothing yet"),
    ],
)
def test_the_verdict(seen: list[Seen], concurrency: int, verdict: str, over: bool) -> None:
    finding = judge(TTFT, seen, concurrency=concurrency, alpha=0.05, most=400)
    assert (finding.verdict, finding.over) == (verdict, over)


def test_gaps_of_one_step_count_once() -> None:
    """32 streams of a hundred gaps: each of the hundred steps was seen 32 times."""
    finding = judge(ITL, [Seen(100, 100)] * 32, concurrency=32, alpha=0.05, most=400)
    assert finding.total == pytest.approx(100)


def test_requests_that_are_late_together_count_as_fewer() -> None:
    alone = [GOOD] * 190 + [LATE] * 10
    Random(1).shuffle(alone)
    together = [GOOD] * 90 + [LATE] * 10 + [GOOD] * 100
    assert judge(TTFT, alone, concurrency=1, alpha=0.05, most=4000).total > 100
    assert judge(TTFT, together, concurrency=1, alpha=0.05, most=4000).total < 40


def test_the_percentile_lies_between_two_shares() -> None:
    finding = judge(TTFT, [GOOD] * 400, concurrency=1, alpha=0.05, most=400)
    low, high = shares_around(TTFT, finding, alpha=0.05)
    assert low is not None
    assert high is not None
    assert low * 400 == pytest.approx(362.83, abs=0.01)
    assert high * 400 == pytest.approx(391.01, abs=0.01)
    assert shares_around(TTFT, judge(TTFT, [], concurrency=1, alpha=0.05, most=400), alpha=0.05) == (None, None)


def test_a_failure_counts_as_late() -> None:
    assert observe(ITL, [0.01, 0.06], missing=3) == Seen(1, 5)
    assert observe(TTFT, [], missing=1) == LATE
