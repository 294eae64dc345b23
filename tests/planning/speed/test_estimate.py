"""What an estimate may never do, whatever it is asked."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.speed.models import A100, CPU, DENSE, H100, MIXED, faster, lighter, on
from tokenfleet.planning.memory import Memory, estimate_memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import Calibration, Speed, UnknownSpeed, Workload, default_calibration, estimate_speed, max_rate

SERVING = on(H100)
MEMORY = estimate_memory(DENSE, SERVING)
LENGTHS = st.integers(min_value=1, max_value=6000)
ANSWERS = st.integers(min_value=1, max_value=1500)
RATES = st.floats(min_value=0.001, max_value=200.0)
FACTORS = st.floats(min_value=1.0, max_value=20.0)
MODELS = st.sampled_from([DENSE, MIXED])
SLACK = 1 + 1e-6


def at(
    rate: float,
    input_tokens: int,
    output_tokens: int,
    model: ModelFacts = DENSE,
    serving: Serving = SERVING,
    memory: Memory = MEMORY,
) -> Speed:
    workload = Workload(input_tokens=input_tokens, output_tokens=output_tokens, rate=rate)
    return estimate_speed(model, serving, workload, memory=memory)


@settings(max_examples=60)
@given(RATES, FACTORS, LENGTHS, ANSWERS, MODELS)
def test_more_requests_are_never_answered_faster(
    rate: float, factor: float, prompt: int, answer: int, model: ModelFacts
) -> None:
    few, many = at(rate, prompt, answer, model), at(rate * factor, prompt, answer, model)
    for name in ("ttft", "itl", "ttft_tail", "itl_tail", "batch"):
        assert getattr(few, name) <= getattr(many, name) * SLACK, name
    assert few.stable or not many.stable


@settings(max_examples=60)
@given(RATES, FACTORS, FACTORS, LENGTHS, ANSWERS, MODELS)
def test_better_hardware_is_never_slower(
    rate: float, flops: float, bandwidth: float, prompt: int, answer: int, model: ModelFacts
) -> None:
    plain = at(rate, prompt, answer, model)
    better = at(rate, prompt, answer, model, on(faster(H100, flops=flops, bandwidth=bandwidth)))
    if plain.stable:  # A replica that is swamped tells of a full batch, which a better one fills with more.
        assert better.ttft <= plain.ttft * SLACK
        assert better.itl <= plain.itl * SLACK
    assert better.capacity >= plain.capacity / SLACK


@settings(max_examples=60)
@given(RATES, st.floats(min_value=0.1, max_value=1.0), LENGTHS, ANSWERS)
def test_fewer_weights_are_never_slower(rate: float, share: float, prompt: int, answer: int) -> None:
    plain = at(rate, prompt, answer, lighter(DENSE, 1.0))
    light = at(rate, prompt, answer, lighter(DENSE, share))
    if plain.stable:
        assert light.itl <= plain.itl * SLACK
        assert light.ttft <= plain.ttft * SLACK
    assert light.capacity >= plain.capacity / SLACK


@settings(max_examples=60)
@given(RATES, LENGTHS, st.integers(min_value=0, max_value=4000), ANSWERS)
def test_a_longer_prompt_never_has_its_first_token_sooner(rate: float, prompt: int, more: int, answer: int) -> None:
    longer = at(rate, prompt + more, answer)
    if longer.stable:  # else both are a full batch, whose chunks may fit the longer prompt better
        assert at(rate, prompt, answer).ttft <= longer.ttft * SLACK


@settings(max_examples=60)
@given(st.floats(min_value=1.0, max_value=3000.0), LENGTHS, ANSWERS, MODELS)
def test_littles_law_holds_of_clients_that_take_turns(concurrency: float, prompt: int, answer: int, model: ModelFacts) -> None:
    workload = Workload(input_tokens=prompt, output_tokens=answer, concurrency=concurrency)
    found = estimate_speed(model, on(H100), workload, memory=MEMORY)
    assert found.requests_per_second * found.e2e == pytest.approx(concurrency, rel=1e-3)
    assert found.requests_per_second <= found.capacity * 1.02 / 0.99
    assert found.batch <= max(found.places, 1.0)


@settings(max_examples=50)
@given(LENGTHS, ANSWERS, MODELS, st.floats(0.01, 20.0), st.floats(0.002, 1.0), FACTORS, FACTORS)
def test_a_tighter_promise_never_allows_more(
    prompt: int, answer: int, model: ModelFacts, ttft: float, itl: float, of_ttft: float, of_itl: float
) -> None:
    def most(ttft: float, itl: float) -> float:
        return max_rate(model, on(H100), input_tokens=prompt, output_tokens=answer, ttft=ttft, itl=itl, memory=MEMORY)

    assert most(ttft, itl) <= most(ttft * of_ttft, itl * of_itl) * SLACK


@settings(max_examples=50)
@given(LENGTHS, ANSWERS, st.floats(0.05, 20.0), st.floats(0.005, 1.0))
def test_the_greatest_rate_keeps_what_is_promised(prompt: int, answer: int, ttft: float, itl: float) -> None:
    rate = max_rate(DENSE, on(H100), input_tokens=prompt, output_tokens=answer, ttft=ttft, itl=itl, memory=MEMORY)
    if rate:
        found = at(rate * 0.999, prompt, answer)  # close to what it can do, a wait changes much faster than the rate
        assert found.stable
        assert found.ttft_tail <= ttft * 1.001
        assert found.itl_tail <= itl * 1.001


def test_without_a_promise_the_greatest_rate_is_the_capacity() -> None:
    rate = max_rate(DENSE, on(H100), input_tokens=1000, output_tokens=200, memory=MEMORY)
    assert rate == pytest.approx(at(1.0, 1000, 200).capacity)
    assert at(rate * 1.01, 1000, 200).stable is False


def test_a_promise_that_nobody_can_keep_allows_nothing() -> None:
    assert max_rate(DENSE, on(H100), input_tokens=1000, output_tokens=200, ttft=1e-4, memory=MEMORY) == 0


def test_the_kv_cache_bounds_the_batch() -> None:
    small = replace(MEMORY, kv_tokens=11_000)
    assert at(1.0, 1000, 200, memory=small).places == pytest.approx(10)
    assert at(1.0, 1000, 200, memory=small).capacity < at(1.0, 1000, 200).capacity


def test_a_draft_that_is_believed_makes_answers_faster_and_one_that_is_not_slower() -> None:
    serving = on(H100, draft=lighter(DENSE, 0.02), draft_tokens=3)
    workload = Workload(input_tokens=500, output_tokens=500, concurrency=1, acceptance=0.8)
    plain = estimate_speed(DENSE, on(H100), workload).itl
    assert estimate_speed(DENSE, serving, workload).itl < plain * 0.6
    assert estimate_speed(DENSE, serving, replace(workload, acceptance=0.0)).itl > plain


def test_groups_of_layers_let_more_through_and_are_no_sooner_done() -> None:
    alone = Workload(input_tokens=2000, output_tokens=200, concurrency=1)
    one, two = (estimate_speed(DENSE, on(H100, pipeline=n), alone, memory=MEMORY) for n in (1, 2))
    assert two.capacity > one.capacity * 1.5
    assert two.itl >= one.itl
    assert two.ttft >= one.ttft


def test_a_cached_prefix_saves_its_prefill() -> None:
    workload = Workload(input_tokens=4000, output_tokens=100, concurrency=1)
    cold, warm = (estimate_speed(DENSE, on(H100), replace(workload, cached_share=share)).ttft for share in (0.0, 0.9))
    assert warm < cold / 3


def test_lengths_that_vary_wait_longer() -> None:
    alike = Workload(input_tokens=4000, output_tokens=100, rate=1.5)
    found = [estimate_speed(DENSE, on(A100), replace(alike, variation=each)).ttft for each in (0.0, 1.0)]
    assert found[1] > found[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"input_tokens": 0}, "input_tokens must be 1 or more (given: 0)", id="no prompt"),
        pytest.param({"output_tokens": -3}, "output_tokens must be 1 or more (given: -3)", id="less than no answer"),
        pytest.param({"rate": 0.0}, "rate must be above 0 (given: 0)", id="no rate"),
        pytest.param({"rate": float("nan")}, "rate must be above 0 (given: nan)", id="a rate that is no number"),
        pytest.param({"rate": None}, "either a concurrency or a rate", id="no load"),
        pytest.param({"concurrency": 4.0}, "either a concurrency or a rate", id="two loads"),
        pytest.param({"rate": None, "concurrency": 0.5}, "concurrency must be 1 or more (given: 0.5)", id="half a client"),
        pytest.param({"cached_share": 1.5}, "cached_share must be between 0 and 1 (given: 1.5)", id="more than all cached"),
        pytest.param({"percentile": 95.0}, "percentile must be above 0 and below 1", id="a percentile in percent"),
        pytest.param({"variation": -1.0}, "variation must be 0 or more (given: -1)", id="less than no variation"),
        pytest.param({"acceptance": 2.0}, "acceptance must be between 0 and 1 (given: 2)", id="twice believed"),
    ],
)
def test_a_workload_that_cannot_be_meant_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Workload(**{"input_tokens": 10, "output_tokens": 10, "rate": 1.0, **fields})  # type: ignore[arg-type]


def test_a_class_without_figures_has_no_speed_without_a_calibration() -> None:
    with pytest.raises(UnknownSpeed, match=r"The speed of cpu is not known: .* --calibrate NAME --out FILE"):
        default_calibration(CPU)
    with pytest.raises(UnknownSpeed):
        estimate_speed(DENSE, on(CPU), Workload(input_tokens=10, output_tokens=10, rate=1.0))
    measured = replace(default_calibration(H100), compute=1.0, bandwidth=1.0, flops=1e12, memory_bandwidth=50e9)
    assert estimate_speed(DENSE, on(CPU), Workload(input_tokens=10, output_tokens=10, rate=0.1), measured).itl > 0.2


def test_a_calibration_is_the_same_after_json() -> None:
    for each in (default_calibration(H100), replace(default_calibration(A100), flops=1e12, memory_bandwidth=1e9)):
        assert Calibration.from_json(each.as_json()) == each


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"compute": 0}, "compute must be above 0", id="nothing computes"),
        pytest.param({"step_seconds": -1}, "step_seconds must be a number, 0 or more (given: -1)", id="a step before it began"),
        pytest.param({"bandwidth": "fast"}, "bandwidth must be a number, 0 or more (given: 'fast')", id="a word"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Calibration.from_json(default_calibration(H100).as_json() | change)
