"""What is tried next: against engines that are quiet, and against ones that are not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, log2
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as any_of

from tokenfleet.planning.tuning import Found, Probe, Search, Try, next_step
from tokenfleet.planning.tuning.judging import Verdict
from tokenfleet.planning.tuning.search import TRIES

Engine = Callable[[int], Probe]


def probe(concurrency: int, verdict: Verdict = "met", tokens: float | None = None) -> Probe:
    """Twice as many at once bring twice as many tokens, where nothing else is said."""
    return Probe(
        concurrency=concurrency,
        verdict=verdict,
        tokens_per_second=float(concurrency) if tokens is None else tokens,
    )


def quiet(largest: int) -> Engine:
    return lambda concurrency: probe(concurrency, "met" if concurrency <= largest else "missed")


def whole(search: Search, engine: Engine, probes: Sequence[Probe] = ()) -> tuple[Found, list[Probe]]:
    done = list(probes)
    while isinstance(step := next_step(search, done), Try):
        done.append(engine(step.concurrency))
        assert len(done) < 500, "it does not end"
    return step, done


@given(any_of.integers(0, 300), any_of.integers(1, 300), any_of.integers(1, 64))
def test_a_quiet_engine_s_largest_is_found_exactly_and_soon(largest: int, most: int, start: int) -> None:
    found, probes = whole(Search(start=start, most=most), quiet(largest))
    assert found.concurrency == (min(largest, most) or None)
    assert found.why == ("none" if not largest else "most" if largest >= most else "limit")
    doublings, halvings = ceil(log2(max(1, most / start))) + 1, ceil(log2(most)) + 1
    assert len(probes) <= doublings + halvings + 2


@given(any_of.integers(0, 300), any_of.integers(1, 300), any_of.integers(1, 64), any_of.randoms(use_true_random=False))
def test_noise_leaves_an_answer_that_most_of_its_tries_met(largest: int, most: int, start: int, chance: Random) -> None:
    def noisy(concurrency: int) -> Probe:
        truth = concurrency <= largest
        return probe(concurrency, "met" if truth != (chance.random() < 0.2) else chance.choice(["missed", "unclear"]))

    found, probes = whole(Search(start=start, most=most), noisy)
    for concurrency in {each.concurrency for each in probes}:
        assert sum(each.concurrency == concurrency for each in probes) <= TRIES
    if found.concurrency is not None:
        kept = [each.verdict == "met" for each in probes if each.concurrency == found.concurrency]
        assert len(kept) >= 2
        assert 2 * sum(kept) > len(kept)


@given(any_of.integers(1, 300), any_of.integers(0, 40), any_of.randoms(use_true_random=False))
def test_one_disturbed_try_does_not_change_the_answer(largest: int, disturbed: int, chance: Random) -> None:
    number = -1

    def engine(concurrency: int) -> Probe:
        nonlocal number
        number += 1
        truth = concurrency <= largest
        return probe(concurrency, "met" if truth and number != disturbed else "missed")

    found, _ = whole(Search(most=300), engine)
    assert found.concurrency == largest


@given(any_of.integers(0, 300), any_of.integers(0, 30), any_of.randoms(use_true_random=False))
def test_a_search_that_goes_on_from_its_first_tries_does_what_the_whole_one_did(
    largest: int, kept: int, chance: Random
) -> None:  # fmt: skip
    seed = chance.random()

    def engine(concurrency: int) -> Probe:
        noise = Random(f"{seed} {concurrency}").random() < 0.2
        return probe(concurrency, "met" if (concurrency <= largest) != noise else "missed")

    found, probes = whole(Search(), engine)
    again, others = whole(Search(), engine, probes[:kept])
    assert (again, others) == (found, probes)


@settings(max_examples=50)
@given(any_of.integers(1, 256), any_of.floats(0.0, 0.5))
def test_less_precision_takes_fewer_tries_and_never_more_than_the_largest(largest: int, precision: float) -> None:
    exact, all_probes = whole(Search(), quiet(largest))
    found, probes = whole(Search(precision=precision), quiet(largest))
    assert exact.concurrency == largest
    assert found.concurrency is not None
    assert largest - max(1, precision * largest) * 2 <= found.concurrency <= largest
    assert len(probes) <= len(all_probes)


def test_the_course_of_a_search() -> None:
    _, probes = whole(Search(most=128), quiet(41))
    tried = [each.concurrency for each in probes]
    assert tried == [8, 16, 32, 64, 48, 40, 44, 42, 41, 41, 42]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        pytest.param({8: 800, 16: 1400, 32: 1420}, Found(16, "throughput"), id="the engine has no more to give"),
        pytest.param({8: 800, 16: 820}, Found(8, "throughput"), id="the first is enough"),
        pytest.param({8: 800, 16: 1400, 32: 1500, 64: 1700}, Found(64, "most"), id="each brings a little more"),
    ],
)
def test_it_ends_where_more_bring_no_more_tokens(tokens: dict[int, float], expected: Found) -> None:
    found, _ = whole(Search(most=64), lambda concurrency: probe(concurrency, tokens=tokens[concurrency]))
    assert found == expected


def test_that_throughput_does_not_grow_may_be_allowed() -> None:
    found, _ = whole(Search(most=64, gain=0.0), lambda concurrency: probe(concurrency, tokens=100.0))
    assert found == Found(64, "most")


def test_what_was_tried_beyond_the_bound_of_another_search_is_not_an_answer() -> None:
    found, _ = whole(Search(most=32), quiet(100), [probe(64), probe(64)])
    assert found == Found(32, "most")


def test_it_tries_no_more_than_the_engine_runs_at_once() -> None:
    def engine(concurrency: int) -> Probe:
        queues = concurrency > 48
        return replace(probe(concurrency, tokens=min(concurrency, 48)), running=48 if queues else None)

    found, probes = whole(Search(), engine)
    assert found == Found(48, "engine")
    assert [each.concurrency for each in probes] == [8, 16, 32, 64, 48, 48]
