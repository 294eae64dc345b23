"""How the benchmark of load tests compares what each measured."""

import pytest

from e2e.bench.agreement import WORKLOADS, ratios


def test_ratios_are_ours_by_theirs_of_what_both_measure() -> None:
    ours = {"closed": {"ttft": 0.2, "itl": 0.01, "e2e": 1.0}}
    assert ratios(ours, {"closed": {"ttft": 0.1, "e2e": 1.25}}) == {"closed ttft": 2.0, "closed e2e": 0.8}


def test_every_workload_is_a_closed_or_an_open_loop() -> None:
    for work in WORKLOADS:
        assert (work.concurrency is None) != (work.rate is None), work.name


def test_what_only_one_has_measured_is_no_ratio() -> None:
    with pytest.raises(KeyError):
        ratios({"closed": {"ttft": 0.2}}, {"closed": {"itl": 0.1}})
