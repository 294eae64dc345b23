"""The approximations of queues, where the exact answer is known."""

from math import log

import pytest

from tokenfleet.planning.speed.waiting import chance_of_waiting, place_wait, poisson_quantile, queue_wait, tail


def test_constant_services_wait_half_as_long_as_exponential_ones() -> None:
    assert queue_wait(0.5, 2.0, variation=1.0) == pytest.approx(2.0)  # M/M/1: u/(1-u) of a service
    assert queue_wait(0.5, 2.0, variation=0.0) == pytest.approx(1.0)  # M/D/1


def test_a_single_place_is_a_single_server() -> None:
    assert place_wait(0.8, 1.0, 1.0, variation=1.0) == pytest.approx(queue_wait(0.8, 1.0, variation=1.0))
    assert chance_of_waiting(0.8, 1.0) == pytest.approx(0.8)


def test_many_places_make_waiting_rare() -> None:
    """M/M/50 at 0.8 waits with a chance of 0.087 (Erlang C)."""
    assert chance_of_waiting(0.8, 50.0) == pytest.approx(0.13, abs=0.05)


def test_the_tail_of_one_exponential_server() -> None:
    """M/M/1: P(W > t) = u exp(-(1-u) t)."""
    mean = queue_wait(0.8, 1.0, variation=1.0)
    assert tail(mean, 0.8, 0.95) == pytest.approx(log(0.8 / 0.05) / 0.2)
    assert tail(mean, 0.04, 0.95) == 0


@pytest.mark.parametrize(
    ("mean", "percentile", "most"),
    [
        pytest.param(0.01, 0.95, 0, id="hardly ever one"),
        pytest.param(0.06, 0.95, 1, id="one, now and then"),
        pytest.param(1.0, 0.95, 3, id="a few"),
        pytest.param(100.0, 0.95, 117, id="as many as a normal distribution has"),
    ],
)
def test_so_many_come_at_most(mean: float, percentile: float, most: int) -> None:
    assert poisson_quantile(mean, percentile) == pytest.approx(most, abs=1 if mean > 50 else 0)
