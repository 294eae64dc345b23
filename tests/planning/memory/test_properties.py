"""What must hold of every estimate, whatever the model and the settings."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.memory.known import facts
from tokenfleet.planning.accelerators import Accelerator, accelerators, find_accelerator
from tokenfleet.planning.memory import estimate_memory, longest_fit, sequences_at, tensor_sizes
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

CLASSES = [each for each in accelerators().values() if each.plannable]
MODELS = st.sampled_from(
    ["Llama-3.1-8B", "Llama-3.1-70B", "Mistral-7B-v0.1", "Qwen3-30B-A3B", "Gemma-2-9B", "gpt-oss-20b", "DeepSeek-V3"]
).map(facts)
LENGTHS = st.integers(64, 200_000)
SERVINGS = st.builds(
    Serving,
    accelerator=st.sampled_from(CLASSES),
    tensor=st.sampled_from([1, 2, 4, 8]),
    pipeline=st.sampled_from([1, 1, 2, 3]),
    kv_dtype=st.sampled_from(["auto", "fp8", "nvfp4", "int8_per_token_head"]),
    quantization=st.sampled_from([None, "fp8"]),
    utilization=st.floats(0.5, 0.95),
    max_model_len=LENGTHS,
    max_num_seqs=st.none() | st.integers(1, 2048),
    max_num_batched_tokens=st.none() | st.integers(2048, 32_768),
    eager=st.booleans(),
    block_size=st.none() | st.sampled_from([16, 32, 64, 128]),
)
QUICK = settings(max_examples=60, deadline=None)


def _with_memory(accelerator: Accelerator, memory: int) -> Accelerator:
    return replace(accelerator, memory=memory)


@QUICK
@given(MODELS, SERVINGS, st.integers(1, 1 << 34))
def test_more_memory_never_holds_fewer_tokens(model: ModelFacts, serving: Serving, more: int) -> None:
    """With steps of a size that does not go by the memory, as it does where nobody sets it."""
    serving = replace(
        serving, max_num_seqs=serving.max_num_seqs or 256, max_num_batched_tokens=serving.max_num_batched_tokens or 2048
    )
    before = estimate_memory(model, serving, fixes=False)
    larger = _with_memory(serving.accelerator, (serving.accelerator.memory or 0) + more)
    after = estimate_memory(model, replace(serving, accelerator=larger), fixes=False)
    assert after.kv_tokens >= before.kv_tokens
    assert after.shortage <= before.shortage


@QUICK
@given(MODELS, SERVINGS)
def test_more_devices_never_hold_fewer_tokens(model: ModelFacts, serving: Serving) -> None:
    found = [
        estimate_memory(model, replace(serving, tensor=size), fixes=False) for size in tensor_sizes(model, serving.accelerator)
    ]
    assert [each.kv_tokens for each in found] == sorted(each.kv_tokens for each in found)
    assert [each.weights for each in found] == sorted((each.weights for each in found), reverse=True)


@QUICK
@given(MODELS, SERVINGS)
def test_a_smaller_kv_cache_type_never_holds_fewer_tokens(model: ModelFacts, serving: Serving) -> None:
    whole = estimate_memory(model, replace(serving, kv_dtype="auto"), fixes=False)
    half = estimate_memory(model, replace(serving, kv_dtype="fp8"), fixes=False)
    assert half.kv_tokens >= whole.kv_tokens * 0.99  # the block of 64 that MLA takes in fp8 may round the last one away


@QUICK
@given(MODELS, SERVINGS)
def test_the_parts_are_what_vllm_may_take(model: ModelFacts, serving: Serving) -> None:
    found = estimate_memory(model, serving, fixes=False)
    parts = found.weights + found.draft + found.adapters + found.activations + found.graphs + found.runtime + found.kv_cache
    assert parts == found.usable if found.kv_cache else parts >= found.usable
    assert found.usable <= found.device


@QUICK
@given(MODELS, SERVINGS)
def test_what_fits_holds_a_sequence(model: ModelFacts, serving: Serving) -> None:
    found = estimate_memory(model, serving, fixes=False)
    assert found.fits == (found.shortage == 0)
    if found.fits:
        assert found.max_concurrency >= 1
        assert found.kv_tokens >= found.max_model_len


@QUICK
@given(MODELS, SERVINGS)
def test_what_is_missing_is_enough(model: ModelFacts, serving: Serving) -> None:
    """A device with the missing bytes more, of which vLLM may take all of these, holds the model."""
    serving = replace(
        serving, max_num_seqs=serving.max_num_seqs or 256, max_num_batched_tokens=serving.max_num_batched_tokens or 2048
    )
    found = estimate_memory(model, serving, fixes=False)
    more = int(found.shortage / serving.utilization / 0.997) + 2048
    larger = _with_memory(serving.accelerator, (serving.accelerator.memory or 0) + more)
    assert estimate_memory(model, replace(serving, accelerator=larger), fixes=False).fits


@QUICK
@given(MODELS, SERVINGS)
def test_the_longest_sequence_that_fits(model: ModelFacts, serving: Serving) -> None:
    longest = longest_fit(model, serving)
    assert 0 <= longest <= (serving.max_model_len or 0)
    if longest:
        assert estimate_memory(model, replace(serving, max_model_len=longest), fixes=False).fits


@QUICK
@given(MODELS, SERVINGS, LENGTHS, LENGTHS)
def test_longer_sequences_are_never_more(model: ModelFacts, serving: Serving, one: int, other: int) -> None:
    found = estimate_memory(model, serving, fixes=False)
    short, long = sorted((one, other))
    assert sequences_at(model, serving, found, short) >= sequences_at(model, serving, found, long)


@settings(max_examples=15, deadline=None)
@given(MODELS, SERVINGS)
def test_advice_never_raises(model: ModelFacts, serving: Serving) -> None:
    found = estimate_memory(model, serving)
    assert found.fits or isinstance(found.fixes, tuple)


@QUICK
@given(MODELS, st.sampled_from(["cpu", "nvidia"]), LENGTHS, st.none() | st.integers(1, 1 << 40))
def test_what_cannot_be_planned_is_estimated_all_the_same(model: ModelFacts, name: str, length: int, limit: int | None) -> None:
    serving = Serving(accelerator=find_accelerator(name), max_model_len=length, memory_limit=limit, kv_cache_bytes=1 << 30)
    found = estimate_memory(model, serving, fixes=False)
    assert found.weights > 0
