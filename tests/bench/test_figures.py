"""The figures of a run: by hand, against numpy and vLLM's own formulas, and what must hold of all runs."""

from itertools import pairwise

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.bench.figures import Slo, Spread, Trim, percentile, summarize
from tokenfleet.bench.record import Exchange, Outcome, Run

SECONDS = st.floats(min_value=0.0, max_value=1000.0, allow_nan=False)


def exchange(index: int = 0, *, intended: float = 0.0, sent: float | None = None, times: tuple[float, ...] = (1.0, 1.5, 2.0),
             tokens: int | None = None, outcome: Outcome = "ok", prompt: int = 10) -> Exchange:  # fmt: skip
    return Exchange(
        index=index,
        intended=intended,
        sent=intended if sent is None else sent,
        first=times[0] if times else None,
        times=times,
        ended=times[-1] if times else intended + 1,
        prompt_tokens=prompt,
        output_tokens=len(times) if tokens is None else tokens,
        outcome=outcome,
    )


@st.composite
def runs(draw: st.DrawFn) -> Run:
    made = []
    for index in range(draw(st.integers(0, 20))):
        intended = draw(SECONDS)
        sent = intended + draw(st.floats(0, 5))
        gaps = draw(st.lists(st.floats(0, 2), max_size=6))
        times = tuple(sent + sum(gaps[: number + 1]) for number in range(len(gaps)))
        outcome: Outcome = draw(st.sampled_from(("ok", "cut", "aborted"))) if times else "error"
        made.append(exchange(index, intended=intended, sent=sent, times=times, outcome=outcome))
    return Run({}, tuple(made))


def test_one_answer_by_hand() -> None:
    summary = summarize(Run({}, (exchange(intended=0.5, times=(1.0, 1.5, 1.5, 2.5), tokens=6),)))
    assert (summary.ttft and summary.ttft.mean, summary.e2e and summary.e2e.mean) == (0.5, 2.0)
    assert summary.tpot is not None
    assert summary.tpot.mean == pytest.approx(1.5 / 5)
    assert summary.itl is not None
    assert (summary.itl.count, summary.itl.mean, summary.itl.max) == (3, 0.5, 1.0)
    assert summary.requests_per_second == pytest.approx(1 / 2.5)
    assert (summary.output_tokens_per_second, summary.input_tokens_per_second) == pytest.approx((6 / 2.5, 10 / 2.5))
    assert summary.goodput is None


def test_latency_counts_from_the_intended_moment() -> None:
    late = exchange(intended=0.0, sent=0.8, times=(1.0, 1.1))
    summary = summarize(Run({}, (late,)))
    assert summary.ttft is not None
    assert summary.lateness is not None
    assert (summary.ttft.mean, summary.lateness.mean) == (1.0, 0.8)


def test_as_vllm_counts_a_whole_run() -> None:
    """`calculate_metrics` of vllm/benchmarks/serve.py, written out."""
    made = tuple(
        exchange(number, intended=number * 0.1, times=tuple(number * 0.1 + 0.2 + step * 0.03 for step in range(number + 1)),
                 tokens=2 * number + 1, prompt=100 + number)
        for number in range(8)
    )  # fmt: skip
    broken = exchange(9, intended=0.3, times=(), outcome="error")
    duration = max(each.ended for each in (*made, broken))
    summary = summarize(Run({"window": {"begins": 0.0, "ends": duration}}, (*made, broken)))
    latencies = [each.times[-1] - each.sent for each in made]
    tpots = [
        (latency - (each.times[0] - each.sent)) / (each.output_tokens - 1)
        for latency, each in zip(latencies, made, strict=True)
        if each.output_tokens > 1
    ]
    gaps = [gap for each in made for gap in numpy.diff(each.times)]
    assert summary.requests_per_second == pytest.approx(len(made) / duration)
    assert summary.output_tokens_per_second == pytest.approx(sum(each.output_tokens for each in made) / duration)
    assert summary.total_tokens_per_second == pytest.approx(
        sum(each.output_tokens + each.prompt_tokens for each in made) / duration
    )
    for spread, values in ((summary.tpot, tpots), (summary.itl, gaps), (summary.e2e, latencies)):
        assert spread is not None
        assert (spread.mean, spread.std) == pytest.approx((numpy.mean(values), numpy.std(values)))
        assert (spread.p50, spread.p99) == pytest.approx((numpy.percentile(values, 50), numpy.percentile(values, 99)))
    assert (summary.ok, summary.errors) == (8, 1)


@given(st.lists(SECONDS, min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(float(numpy.percentile(values, percent)), abs=1e-9)


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_percentiles_rise_within_the_values(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread is not None
    ordered = [min(values), spread.p50, spread.p90, spread.p95, spread.p99, spread.max]
    assert all(low <= high + 1e-9 for low, high in pairwise(ordered))
    assert min(values) - 1e-9 <= spread.mean <= max(values) + 1e-9


@given(runs(), SECONDS, SECONDS)
def test_goodput_is_throughput_at_most_and_looser_promises_keep_more(run: Run, ttft: float, more: float) -> None:
    tight, loose = (summarize(run, slo=Slo(ttft=bound, e2e=bound)) for bound in (ttft + 0.001, ttft + more + 0.001))
    assert tight.goodput is not None
    assert loose.goodput is not None
    assert tight.goodput <= loose.goodput <= loose.requests_per_second + 1e-9


@given(runs())
def test_every_request_of_a_whole_run_has_one_outcome(run: Run) -> None:
    summary = summarize(run)
    assert summary.ok + summary.errors + summary.cut + summary.aborted == summary.requests == len(run.exchanges)
    assert summary.ttft is None or summary.ttft.count == summary.ok


@given(runs(), st.integers(0, 30))
def test_a_warm_up_takes_no_more_than_it_says(run: Run, requests: int) -> None:
    left = summarize(run, warmup=Trim(requests=requests)).requests
    assert left >= len(run.exchanges) - requests if requests < len(run.exchanges) else left <= len(run.exchanges)


def test_of_nothing_nothing_is_known() -> None:
    summary = summarize(Run({}, ()), slo=Slo(ttft=1.0))
    assert (summary.ttft, summary.itl, summary.requests_per_second, summary.goodput) == (None, None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "begins", "ends", "requests"),
    [
        pytest.param(None, None, 0.0, 12.0, 10, id="a whole run"),
        pytest.param(Trim(requests=3), None, 3.0, 12.0, 7, id="the first three requests are left out"),
        pytest.param(Trim(seconds=2.5), None, 2.5, 12.0, 7, id="two and a half seconds are left out"),
        pytest.param(None, Trim(requests=2), 0.0, 8.0, 9, id="until the first of the last two is sent"),
        pytest.param(None, Trim(seconds=2.0), 0.0, 10.0, 10, id="the last two seconds"),
        pytest.param(Trim(requests=10), None, 12.0, 12.0, 0, id="a warm-up that is the whole run"),
    ],
)
def test_what_of_a_run_counts(
    warmup: Trim | None, cooldown: Trim | None, begins: float, ends: float, requests: int
) -> None:  # fmt: skip
    run = Run({}, tuple(exchange(number, intended=float(number), times=(number + 1.0, number + 3.0)) for number in range(10)))
    summary = summarize(run, warmup=warmup, cooldown=cooldown)
    assert (summary.begins, summary.ends, summary.requests) == (begins, ends, requests)


def test_tokens_count_where_they_came() -> None:
    """A window from 2 s to 6 s has two of each answer's four chunks, or none or all."""
    run = Run(
        {"window": {"begins": 2.0, "ends": 6.0}},
        (
            exchange(0, intended=0.0, times=(1.0, 1.5, 2.5, 3.0), tokens=8),
            exchange(1, intended=3.0, times=(4.0, 5.0, 6.5, 7.0), tokens=8),
            exchange(2, intended=6.5, times=(7.0, 8.0), tokens=8),
        ),
    )
    summary = summarize(run)
    assert summary.output_tokens_per_second == 8 / 4
    assert summary.requests_per_second == 1 / 4
    assert (summary.requests, summary.ok) == (1, 1)


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        pytest.param(Slo(ttft=1.0), True, id="the first token in time"),
        pytest.param(Slo(ttft=0.9), False, id="the first token late"),
        pytest.param(Slo(itl=0.5), True, id="gaps of half a second"),
        pytest.param(Slo(itl=0.4), False, id="gaps too long"),
        pytest.param(Slo(tpot=0.5, e2e=1.9), False, id="one promise of two"),
        pytest.param(Slo(ttft=1.0, itl=0.5, tpot=0.5, e2e=2.0), True, id="all promises"),
    ],
)
def test_promises(slo: Slo, met: bool) -> None:
    assert slo.met(exchange()) is met
    assert summarize(Run({}, (exchange(),)), slo=slo).good == int(met)
