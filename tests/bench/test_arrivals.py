"""When requests are to be sent."""

from itertools import islice, pairwise
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.bench.arrivals import Arrivals, Open, Ramp, Trace, arrivals

RATES = st.floats(0.1, 500)
OPEN = st.one_of(
    st.builds(Open, RATES, st.sampled_from(("poisson", "constant"))),
    st.builds(Ramp, st.floats(0, 100), RATES, st.floats(0.5, 60), st.sampled_from(("poisson", "constant"))),
)


def first(pattern: Arrivals, many: int, *, seed: int = 1, count: int | None = None) -> list[float]:
    return list(islice(arrivals(pattern, Random(seed), count=count), many))


@given(OPEN, st.integers(0, 100))
def test_time_never_goes_back_and_a_seed_is_a_run(pattern: Arrivals, seed: int) -> None:
    times = first(pattern, 50, seed=seed)
    assert times == sorted(times)
    assert times == first(pattern, 50, seed=seed)
    assert times[0] >= 0


def test_constant_arrivals() -> None:
    assert first(Open(4.0, "constant"), 4) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_the_spread_of_chance() -> None:
    times = first(Open(10.0), 20_000)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert mean(gaps) == pytest.approx(0.1, rel=0.03)
    assert mean(gap * gap for gap in gaps) == pytest.approx(2 * 0.1**2, rel=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_a_known_number_of_arrivals_has_exactly_the_rate(seed: int) -> None:
    times = first(Open(5.0), 100, seed=seed, count=40)
    assert len(times) == 40
    assert times[-1] == pytest.approx(40 / 5.0)


@pytest.mark.parametrize(
    ("ramp", "within", "expected"),
    [
        pytest.param(Ramp(0.0, 10.0, 10.0, "constant"), 10.0, 51, id="from nothing: half of the last rate"),
        pytest.param(Ramp(10.0, 0.1, 10.0, "constant"), 10.0, 51, id="down to nearly nothing"),
        pytest.param(Ramp(4.0, 4.0, 10.0, "constant"), 10.0, 41, id="no ramp at all"),
        pytest.param(Ramp(0.0, 10.0, 10.0, "constant"), 12.0, 71, id="then the last rate"),
    ],
)
def test_a_ramp(ramp: Ramp, within: float, expected: int) -> None:
    assert sum(time <= within + 1e-9 for time in first(ramp, 200)) == expected


def test_a_trace_ends() -> None:
    assert first(Trace((0.0, 0.5, 2.0)), 10) == [0.0, 0.5, 2.0]
