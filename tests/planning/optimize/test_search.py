"""The search on models that one knows: what it chooses, what it says of the others, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest

from e2e.bench.planning_models import LLAMA_8B, LLAMA_70B
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import accelerators, extend, find_accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize import Ask, InvalidAsk, optimize
from tokenfleet.planning.optimize.ask import BATCHES
from tokenfleet.planning.speed import default_calibration
from tokenfleet.planning.speed.speed import Calibration

MARGIN = 1 + default_calibration(find_accelerator("nvidia-h100-80gb")).error
ASK = Ask(rate=5, input_tokens=1024, output_tokens=256, ttft=0.5, itl=0.05)


def reason(model: ModelFacts, ask: Ask, name: str) -> str:
    outcome = optimize(model, replace(ask, accelerators=(name,)))
    assert outcome.best is None
    (failure,) = outcome.failures
    assert failure.accelerator == name
    return failure.reason


def test_the_cheapest_of_all_classes_is_the_best_and_each_class_tells_its_own_price() -> None:
    outcome = optimize(LLAMA_8B, ASK)
    assert outcome.best is not None
    dearer = {each.accelerator: each.hourly for each in outcome.failures if each.hourly is not None}
    assert len(dearer) == len(outcome.failures)
    assert outcome.best.hourly <= min(dearer.values())
    for name, hourly in dearer.items():
        alone = optimize(LLAMA_8B, replace(ASK, accelerators=(name,))).best
        assert alone is not None
        assert alone.hourly == hourly


def test_figures_follow_from_each_other() -> None:
    best = optimize(LLAMA_8B, ASK).best
    assert best is not None
    assert best.utilization == pytest.approx(ASK.rate / (best.replicas * best.capacity))
    assert best.per_million_tokens == pytest.approx(best.hourly / (ASK.rate * 1280 * 3600) * 1e6)
    assert best.gpus == best.replicas * best.serving.devices


@pytest.mark.parametrize(
    ("ask", "name", "said"),
    [
        pytest.param({}, "nvidia-a10-24gb", "4 nvidia-a10-24gb have 22.5 GiB each; weights need", id="weights are too large"),
        pytest.param(
            {"itl": 0.02},
            "nvidia-l4-24gb",
            f"8 nvidia-l4-24gb, {MARGIN - 1:.0%} of margin counted in",
            id="ITL is too slow",
        ),
        pytest.param(
            {"ttft": 0.01}, "nvidia-h100-80gb", "> 10 ms even at batch 1 on 8 nvidia-h100-80gb", id="TTFT is too slow"
        ),
        pytest.param({"rate": 500, "max_gpus": 8}, "nvidia-h100-80gb", "GPUs of the 8 allowed", id="it needs too many"),
        pytest.param({"currency": "EUR"}, "nvidia-h100-80gb", "its price is in USD, which cannot be compared", id="currency"),
        pytest.param({}, "nvidia", "its memory, bandwidth or FLOPs are not known", id="nothing is known of the class"),
        pytest.param({}, "simulated", "it runs no model", id="a simulator"),
    ],
)
def test_a_class_says_why_it_is_not_the_best(ask: dict[str, Any], name: str, said: str) -> None:
    assert said in reason(LLAMA_70B, replace(ASK, ttft=1.0, **ask) if "ttft" not in ask else replace(ASK, **ask), name)


def test_a_class_without_a_price_says_so() -> None:
    try:
        extend('[mine]\nsummary = "Mine."\nresource = "nvidia.com/gpu"\nmemory_mib = 81920\nbandwidth_gb = 2000\n'
               "teraflops = { bf16 = 300 }\n", origin="test")  # fmt: skip
        assert reason(LLAMA_8B, ASK, "mine") == "it has no price; add one to the accelerators' document"
    finally:
        extend("", origin="test")


def test_a_model_that_overflows_in_half_precision_is_kept_from_devices_without_bfloat16() -> None:
    gemma = replace(LLAMA_8B, architecture="Gemma3ForConditionalGeneration")
    assert "vLLM refuses Gemma3ForConditionalGeneration in float16" in reason(gemma, ASK, "nvidia-t4-16gb")


def test_files_of_a_type_that_a_device_does_not_run_are_refused() -> None:
    quantized = replace(LLAMA_8B, quantization="mxfp4")
    assert "its files are quantized as mxfp4, which vLLM does not run there" in reason(quantized, ASK, "nvidia-t4-16gb")


def test_quantized_files_stay_as_they_are_and_groups_are_not_cut() -> None:
    quantized = replace(LLAMA_70B, quantization="awq", intermediate_size=29_568)
    outcome = optimize(quantized, replace(ASK, ttft=2.0, accelerators=("nvidia-h100-80gb", "nvidia-b200-180gb")))
    assert outcome.best is not None
    assert {each.serving.quantization for each in (outcome.best, *outcome.runners_up)} == {None}
    assert {each.serving.tensor for each in (outcome.best, *outcome.runners_up)} == {1}


def test_where_heads_cannot_be_split_further_layers_are() -> None:
    model = replace(LLAMA_70B, attention=(replace(LLAMA_70B.attention[0], heads=60, kv_heads=4),))
    slow = replace(ASK, rate=0.1, ttft=10.0, itl=0.5, accelerators=("nvidia-l4-24gb",), precisions=("files",))
    outcome = optimize(model, slow)
    assert outcome.best is not None
    assert (outcome.best.serving.tensor, outcome.best.serving.pipeline) == (4, 2)


def test_nobody_keeps_a_promise_that_cannot_be_kept_and_the_closest_says_by_how_much() -> None:
    outcome = optimize(LLAMA_70B, replace(ASK, ttft=0.01))
    assert outcome.best is None
    assert outcome.closest is not None
    assert outcome.closest.accelerator == "nvidia-b200-180gb"
    miss = outcome.closest.miss
    assert miss is not None
    assert miss.by == pytest.approx(miss.speed.ttft_tail * MARGIN / 0.01)
    assert all(each.miss.by >= miss.by for each in outcome.failures if each.miss is not None)


def test_an_end_to_end_promise_is_kept_by_what_is_chosen() -> None:
    asked = replace(ASK, ttft=None, itl=None, e2e=4.0)
    best = optimize(LLAMA_8B, asked).best
    assert best is not None
    assert (best.speed.ttft_tail + 255 * best.speed.itl_tail) * MARGIN <= 4.0


def test_a_measured_class_is_taken_at_its_measurements() -> None:
    slow = Calibration(compute=0.1, bandwidth=0.1, step_seconds=0.01, sequence_seconds=1e-4, error=0.1, source="measured")
    name = "nvidia-h100-80gb"
    published = optimize(LLAMA_8B, replace(ASK, accelerators=(name,))).best
    measured = optimize(LLAMA_8B, replace(ASK, ttft=5.0, itl=0.2, accelerators=(name,), calibrations={name: slow})).best
    assert published is not None
    assert measured is not None
    assert measured.speed.error == 0.1
    assert measured.capacity < published.capacity


def test_the_least_number_of_replicas_is_kept_and_headroom_is_room() -> None:
    least = optimize(LLAMA_8B, replace(ASK, rate=0.01, min_replicas=3)).best
    assert least is not None
    assert least.replicas == 3
    roomy = optimize(LLAMA_8B, replace(ASK, headroom=1.0)).best
    assert roomy is not None
    assert roomy.utilization <= 0.5


def test_of_equal_cost_the_files_stay_as_they_are() -> None:
    best = optimize(LLAMA_8B, replace(ASK, rate=0.1, accelerators=("nvidia-h100-80gb",))).best
    assert best is not None
    assert (best.precision, best.serving.kv_dtype) == ("files", "auto")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"rate": 0}, "The rate is 0 requests a second", id="no load"),
        pytest.param({"rate": -1}, "The rate is -1 requests a second", id="a negative load"),
        pytest.param({"rate": float("nan")}, "The rate is nan requests a second", id="no number"),
        pytest.param({"input_tokens": 0}, "A prompt of 0 tokens", id="an empty prompt"),
        pytest.param({"output_tokens": 0}, "An answer of 0 tokens", id="an empty answer"),
        pytest.param({"ttft": -0.1, "itl": 0.0}, "ttft and itl cannot be promised to be 0 or less", id="promises below 0"),
        pytest.param({"percentile": 95}, "The percentile 95 is not between 0 and 1", id="a percentile in percent"),
        pytest.param({"headroom": -0.1}, "The headroom -0.1 is below 0", id="less than the load"),
        pytest.param({"safety": -1}, "The safety -1 is below 0", id="a margin below 0"),
        pytest.param({"min_replicas": 0}, "At least 0 replicas", id="no replica"),
        pytest.param({"max_gpus": 0}, "At most 0 GPUs", id="no GPU"),
        pytest.param({"max_model_len": 1000}, "maxModelLen 1000 is less than a request's 1280 tokens", id="cut short"),
        pytest.param({"batches": ()}, "Nothing is left to choose from", id="no batch"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidAsk, match=said.replace("(", r"\(")):
        replace(ASK, **wrong)


def test_a_sequence_that_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(InvalidAsk, match="LlamaForCausalLM was made for 131072 at most"):
        optimize(LLAMA_8B, replace(ASK, max_model_len=200_000))


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="no class is called 'tpu'"):
        optimize(LLAMA_8B, replace(ASK, accelerators=("tpu",)))


def test_without_names_all_classes_are_looked_at_that_have_figures() -> None:
    outcome = optimize(LLAMA_8B, ASK)
    assert outcome.best is not None
    named = {outcome.best.serving.accelerator.name, *(each.accelerator for each in outcome.failures)}
    assert named == {each.name for each in accelerators().values() if each.plannable}
    assert outcome.tried > len(named) * len(BATCHES)
