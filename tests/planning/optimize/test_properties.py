"""What the search promises of any model and any load: all fits and keeps its promises, and to ask for more never costs less."""

from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from e2e.bench.planning_models import dense
from tokenfleet.planning.cost import hourly
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize import Ask, Candidate, optimize
from tokenfleet.planning.speed import default_calibration, max_rate

_CLASSES = ("nvidia-t4-16gb", "nvidia-l4-24gb", "nvidia-l40s-48gb", "nvidia-a100-80gb", "nvidia-h100-80gb")
_SHARE = 1e-6


@st.composite
def models(draw: st.DrawFn) -> ModelFacts:
    """From a billion parameters to about a hundred."""
    heads = draw(st.sampled_from([12, 16, 28, 32, 40, 64]))
    return dense(
        "LlamaForCausalLM",
        layers=draw(st.integers(8, 90)),
        hidden=heads * 128,
        heads=heads,
        kv_heads=draw(st.sampled_from([each for each in (1, 2, 4, 8) if heads % each == 0])),
        intermediate=draw(st.sampled_from([8192, 14_336, 18_944, 28_672])),
        vocabulary=draw(st.sampled_from([32_000, 128_256])),
        dtype=draw(st.sampled_from(["bfloat16", "float16"])),
    )


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    return Ask(
        rate=draw(st.floats(0.05, 50)),
        input_tokens=draw(st.integers(1, 4096)),
        output_tokens=draw(st.integers(1, 1024)),
        ttft=draw(st.none() | st.floats(0.1, 5)),
        itl=draw(st.none() | st.floats(0.01, 0.2)),
        e2e=draw(st.none() | st.floats(1, 60)),
        percentile=draw(st.sampled_from([0.5, 0.9, 0.95, 0.99])),
        accelerators=tuple(draw(st.lists(st.sampled_from(_CLASSES), min_size=1, max_size=2, unique=True))),
        spot=draw(st.booleans()),
        batches=(16, 128),
    )


def cost(model: ModelFacts, ask: Ask) -> float:
    """Of the best; without one, more than anything."""
    best = optimize(model, ask).best
    return float("inf") if best is None else best.hourly


def found(model: ModelFacts, ask: Ask) -> list[Candidate]:
    outcome = optimize(model, ask)
    return [each for each in (outcome.best, *outcome.runners_up) if each is not None]


@given(models(), asks())
@settings(max_examples=12)
def test_all_that_is_proposed_fits_on_one_node_and_is_possible(model: ModelFacts, ask: Ask) -> None:
    for each in found(model, ask):
        serving = each.serving
        assert estimate_memory(model, serving).fits
        assert serving.max_model_len == ask.input_tokens + ask.output_tokens
        assert serving.devices <= serving.accelerator.per_node
        assert model.attention[0].heads % serving.tensor == 0
        assert serving.quantization in (None, "fp8")
        assert "fp8" in serving.accelerator.flops or (serving.quantization, serving.kv_dtype) == (None, "auto")


@given(models(), asks())
@settings(max_examples=12)
def test_all_that_is_proposed_carries_the_load_within_its_promises_with_a_margin(model: ModelFacts, ask: Ask) -> None:
    assume(ask.e2e is None)
    for each in found(model, ask):
        margin = 1 + default_calibration(each.serving.accelerator).error
        able = max_rate(
            model,
            each.serving,
            input_tokens=ask.input_tokens,
            output_tokens=ask.output_tokens,
            ttft=None if ask.ttft is None else ask.ttft / margin,
            itl=None if ask.itl is None else ask.itl / margin,
            percentile=ask.percentile,
            memory=each.memory,
        )
        assert ask.rate / each.replicas <= able / margin * (1 + _SHARE)
        assert each.speed.stable
        assert each.hourly == hourly(each.serving.accelerator, each.serving.devices, each.replicas, spot=ask.spot)


@given(models(), asks(), st.floats(1, 10))
@settings(max_examples=15)
def test_more_load_never_costs_less(model: ModelFacts, ask: Ask, times: float) -> None:
    assert cost(model, replace(ask, rate=ask.rate * times)) >= cost(model, ask)


@given(models(), asks(), st.sampled_from(["ttft", "itl", "e2e"]), st.floats(0.1, 1))
@settings(max_examples=15)
def test_a_stricter_promise_never_costs_less(model: ModelFacts, ask: Ask, promise: str, times: float) -> None:
    loose = getattr(ask, promise) or 1.0
    asks = [_promising(ask, promise, seconds) for seconds in (loose * times, loose)]
    assert cost(model, asks[0]) >= cost(model, asks[1])


def _promising(ask: Ask, promise: str, seconds: float) -> Ask:
    changes: dict[str, Any] = {promise: seconds}
    return replace(ask, **changes)


@given(models(), asks(), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=10)
def test_a_larger_margin_never_costs_less(model: ModelFacts, ask: Ask, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert cost(model, replace(ask, safety=large)) >= cost(model, replace(ask, safety=small))


@given(models(), asks())
@settings(max_examples=15)
def test_more_to_choose_from_never_costs_more(model: ModelFacts, ask: Ask) -> None:
    fewer = replace(ask, precisions=("files",), kv_precisions=("auto",), accelerators=(ask.accelerators or _CLASSES)[:1])
    assert cost(model, ask) <= cost(model, fewer)


@given(models(), asks())
@settings(max_examples=15)
def test_every_class_is_the_best_or_says_why_not(model: ModelFacts, ask: Ask) -> None:
    outcome = optimize(model, ask)
    best = {outcome.best.serving.accelerator.name} if outcome.best is not None else set()
    assert best | {each.accelerator for each in outcome.failures} == set(ask.accelerators or ())
    assert all(each.reason for each in outcome.failures)
    costs = [each.hourly for each in found(model, ask)]
    assert costs == sorted(costs)
