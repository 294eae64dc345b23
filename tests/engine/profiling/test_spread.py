"""The middle and the edges, beside Python's own."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet_engine.profiling.spread import Spread, spread


def test_one_sample_is_all_three() -> None:
    assert spread([0.25]) == Spread(median=0.25, p10=0.25, p90=0.25)


@given(st.lists(st.floats(0.0, 1e3), min_size=2, max_size=40))
def test_it_agrees_with_the_standard_library(samples: list[float]) -> None:
    tenths = statistics.quantiles(samples, n=10, method="inclusive")
    found = spread(samples)
    assert found.median == pytest.approx(statistics.median(samples))
    assert found.p10 == pytest.approx(tenths[0])
    assert found.p90 == pytest.approx(tenths[8])
