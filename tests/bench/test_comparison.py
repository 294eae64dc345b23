"""Two sides compared: what is shown to differ and what is not, how wide the intervals are, and what is said beside them."""

import json
from collections.abc import Sequence
from math import exp
from random import Random
from typing import Any

import pytest

from tokenfleet.bench.comparison import GATED, METRICS, Comparison, Difference, compare
from tokenfleet.bench.figures import Slo
from tokenfleet.bench.record import Exchange, Run

pytest.importorskip("numpy")

META = {"model": "demo", "endpoint": "completions", "load": {"kind": "closed", "concurrency": 4}, "ending": "complete"}


def run(seed: int, *, slower: float = 1.0, count: int = 200, fail: float = 0.0, drift: float = 0.0, **meta: Any) -> Run:
    """A closed loop of four: a first token after about 50 ms, and nine gaps of about 10 ms. drift: of the whole run."""
    chance, exchanges, free = Random(seed), [], [0.0] * 4
    factor = slower * exp(drift * Random(f"drift {seed}").gauss(0, 1))
    for index in range(count):
        place = min(range(4), key=free.__getitem__)
        sent = free[place]
        first = sent + factor * 0.05 * chance.lognormvariate(0, 0.2)
        times = [first]
        for _ in range(9):
            times.append(times[-1] + factor * 0.01 * chance.lognormvariate(0, 0.3))
        failed = chance.random() < fail
        exchanges.append(
            Exchange(
                index=index,
                intended=sent,
                sent=sent,
                first=None if failed else first,
                times=() if failed else tuple(times),
                ended=times[-1],
                prompt_tokens=8,
                output_tokens=0 if failed else 10,
                outcome="error" if failed else "ok",
                error="HTTP 500" if failed else None,
            )
        )
        free[place] = times[-1]
    return Run({**META, **meta, "window": {"begins": 0.0, "ends": max(free)}}, tuple(exchanges))


def of(result: Comparison, metric: str) -> Difference:
    return next(each for each in result.differences if each.metric == metric)


def test_the_same_run_has_no_difference() -> None:
    result = compare([run(1)], [run(1)], draws=200)
    for each in result.differences:
        assert each.change == 0
        assert each.verdict == "no difference"


def test_what_is_a_fifth_slower_is_worse_in_all_that_it_is() -> None:
    result = compare([run(1)], [run(2, slower=1.2)], draws=300)
    for name in ("ttft.p50", "itl.p50", "tpot.mean", "e2e.p95"):
        found = of(result, name)
        assert found.verdict == "worse"
        assert found.change == pytest.approx(0.2, abs=0.06)
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0.2 < found.high
    for name in ("requests_per_second", "output_tokens_per_second"):
        found = of(result, name)
        assert found.verdict == "worse"
        assert found.change == pytest.approx(1 / 1.2 - 1, abs=0.05)
        assert found.worsening == -found.change
    assert of(result, "error_share").verdict == "no difference"


def test_what_is_faster_is_better() -> None:
    result = compare([run(1)], [run(2, slower=0.8)], draws=200)
    assert of(result, "ttft.p50").verdict == of(result, "requests_per_second").verdict == "better"
    assert not result.worse(0.0)


def test_failures_are_compared_by_their_share() -> None:
    found = of(compare([run(1)], [run(2, fail=0.2)], draws=300), "error_share")
    assert found.verdict == "worse"
    assert found.change == pytest.approx(0.2, abs=0.07)


def test_goodput_is_compared_where_something_was_promised() -> None:
    result = compare([run(1)], [run(2, slower=1.2)], slo=Slo(ttft=0.05), draws=200)
    assert of(result, "goodput").verdict == "worse"
    assert "goodput" not in {each.metric for each in compare([run(1)], [run(2)], draws=100).differences}


def test_where_nothing_differs_little_is_found_to() -> None:
    """One in twenty intervals may miss zero; of 24, more than five would with a chance of 1 : 600."""
    wrong = dict.fromkeys(("ttft.p50", "itl.p50", "e2e.mean", "output_tokens_per_second"), 0)
    for seed in range(24):
        result = compare([run(2 * seed, count=100)], [run(2 * seed + 1, count=100)], draws=100, seed=seed)
        for metric in wrong:
            wrong[metric] += of(result, metric).verdict != "no difference"
    assert max(wrong.values()) <= 5, wrong


def test_several_runs_show_what_differs_from_one_to_the_next() -> None:
    """Each run is as a whole faster or slower by a tenth: one against one is sure of what four against four is not."""
    one = compare([run(1, drift=0.1)], [run(2, drift=0.1)], draws=200)
    first, second = ([run(seed, drift=0.1) for seed in seeds] for seeds in ((9, 11, 13, 15), (10, 12, 14, 16)))
    several = compare(first, second, draws=200)

    def width(result: Comparison) -> float:
        found = of(result, "e2e.p50")
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(several) > 2 * width(one)
    assert of(several, "e2e.p50").verdict == "no difference"
    assert several.runs == (4, 4)
    assert several.requests == (800, 800)


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, second, third = (compare([run(1)], [run(2)], draws=100, seed=seed).as_json() for seed in (1, 1, 2))
    assert first == second != third
    assert json.loads(json.dumps(first)) == first


def test_too_few_requests_show_nothing() -> None:
    result = compare([run(1, count=20)], [run(2, count=20, slower=3)], draws=100)
    assert {each.verdict for each in result.differences} == {"unclear"}
    assert not result.worse(0.0)
    assert "20 requests are too few to say anything: at least 30 on each side." in result.notes


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param({}, {"model": "other"}, "They were not asked the same: model is demo against other.", id="another model"),
        pytest.param(
            {},
            {"load": {"kind": "closed", "concurrency": 8}},
            "They were not asked the same: load.concurrency is 4 against 8.",
            id="another load",
        ),
        pytest.param({}, {"ending": "server gone"}, "Not every run was complete", id="half a run"),
        pytest.param({}, {}, "With fewer than 3 runs on each side it is not known", id="single runs"),
    ],
)
def test_what_is_to_be_borne_in_mind(first: dict[str, Any], second: dict[str, Any], expected: str) -> None:
    notes = compare([run(1, **first)], [run(2, **second)], draws=100).notes
    assert any(note.startswith(expected) for note in notes), notes


def test_what_is_worse_by_more_than_is_allowed() -> None:
    result = compare([run(1)], [run(2, slower=1.2)], draws=200)
    assert {each.metric for each in result.worse(0.10)} >= {"ttft.p50", "itl.p50", "requests_per_second"}
    assert {each.metric for each in result.worse(0.10, ["ttft.p50"])} == {"ttft.p50"}
    assert not result.worse(0.5)


def test_the_gated_are_among_the_compared() -> None:
    assert set(GATED) < set(METRICS)


def test_warm_up_is_left_out_as_the_run_was_started() -> None:
    def warm(runs: Sequence[Run]) -> list[Run]:
        return [Run({**each.meta, "warmup": {"requests": 50, "seconds": 0.0}}, each.exchanges) for each in runs]

    assert compare(warm([run(1)]), warm([run(2)]), draws=100).requests == (150, 150)
