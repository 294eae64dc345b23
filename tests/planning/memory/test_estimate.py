"""Where a device's memory goes: weights as they are loaded and split, activations, graphs, and what is missing."""

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.planning.memory.known import A100, B200, CPU, GIB, H100, L4, facts, planned, serving
from tokenfleet.planning.memory import estimate_memory, longest_fit
from tokenfleet.planning.memory.choices import batch_of, compute_dtype
from tokenfleet.planning.memory.working import capture_sizes, cuda_memory

LLAMA = "Llama-3.1-8B"
TABLE = 128_256 * 4096
"""Numbers of Llama's embedding, and of its head."""
INSIDE = 8_030_261_248 - 2 * TABLE
"""Of its layers, and of the norm behind them."""
NORMS = 32 * 2 * 4096


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        pytest.param({}, 16_060_522_496, id="as the files are"),
        pytest.param({"dtype": "float32"}, 2 * 16_060_522_496, id="cast to float32"),
        pytest.param({"quantization": "fp8"}, INSIDE + NORMS + 4096 + 4 * TABLE, id="a byte for each linear layer's number"),
        pytest.param(
            {"quantization": "mxfp8"}, round((INSIDE - NORMS - 4096) * 8.25 / 8) + 2 * (NORMS + 4096 + 2 * TABLE),
            id="a byte, and a scale for 32",
        ),
        pytest.param({"quantization": "nvfp4_per_token"}, 16_060_522_496, id="experts alone, of which there are none"),
        pytest.param({"tensor": 2}, INSIDE + NORMS + 2 * TABLE, id="half of it, but all norms"),
        pytest.param({"pipeline": 2}, INSIDE + 2 * TABLE - 8192, id="half of the layers, and the embedding or the head"),
        # of one key and one value head a device has a whole one: half a head of each more than its part
        pytest.param(
            {"tensor": 16}, (INSIDE - NORMS) // 8 + 2 * NORMS + 2 * TABLE // 8 + 32 * 4096 * 256 - 512 + 512,
            id="more devices than key heads",
        ),
    ],
)  # fmt: skip
def test_weights_on_the_fullest_device(settings: dict[str, Any], size: int) -> None:
    found = planned(LLAMA, H100, **settings).weights
    assert found == pytest.approx(size, abs=20_000)


def test_experts_are_quantized_where_other_layers_cannot_be() -> None:
    whole, part = planned("Qwen3-30B-A3B", B200), planned("Qwen3-30B-A3B", B200, quantization="nvfp4_per_token")
    experts = 48 * 128 * 3 * 2048 * 768
    assert whole.weights - part.weights == pytest.approx(experts * (2 - 4.5 / 8), rel=1e-6)


def test_files_that_are_quantized_stay_as_they_are() -> None:
    model = facts("DeepSeek-V3")
    memory = estimate_memory(model, serving(B200, tensor=8, quantization="fp8"))
    assert memory.weights == estimate_memory(model, serving(B200, tensor=8)).weights
    assert memory.weights == pytest.approx(model.weight_bytes / 8, rel=0.02)  # and what each device holds as a whole


def test_a_model_of_float32_is_cast_to_two_bytes() -> None:
    assert planned("Gemma-2-9B", H100).weights == pytest.approx(2 * 9_241_705_984, rel=1e-6)


def test_the_head_that_is_the_embedding_stands_on_the_first_and_the_last_device_of_a_pipeline() -> None:
    table, rest = 151_936 * 1024 * 2, facts("Qwen3-0.6B").weight_bytes - 151_936 * 1024 * 2
    assert planned("Qwen3-0.6B", H100).weights == table + rest
    assert planned("Qwen3-0.6B", H100, pipeline=2).weights == pytest.approx(table + rest / 2, rel=1e-3)


def test_rows_of_the_vocabulary_come_in_64s() -> None:
    model = replace(facts(LLAMA), vocabulary=128_250)
    assert estimate_memory(model, serving(H100)).weights > 16_060_522_496


@pytest.mark.parametrize(
    ("accelerator", "model", "settings", "tokens", "sequences"),
    [
        pytest.param(L4, LLAMA, {}, 2048, 256, id="a small GPU"),
        pytest.param(A100, LLAMA, {}, 2048, 256, id="an A100, whatever its memory"),
        pytest.param(H100, LLAMA, {}, 8192, 1024, id="70 GiB and more"),
        pytest.param(B200, LLAMA, {}, 16_384, 1024, id="160 GiB and more"),
        pytest.param(CPU, LLAMA, {}, 2048, 128, id="a CPU"),
        pytest.param(H100, LLAMA, {"max_num_seqs": 4, "max_model_len": 100}, 400, 4, id="not more than all sequences have"),
        pytest.param(L4, LLAMA, {"chunked_prefill": False, "max_model_len": 9000}, 9000, 256, id="a whole prompt in one step"),
        pytest.param(H100, LLAMA, {"max_num_batched_tokens": 512}, 512, 512, id="not more sequences than tokens"),
    ],
)
def test_steps_are_as_large_as_vllm_makes_them(
    accelerator: str, model: str, settings: dict[str, Any], tokens: int, sequences: int
) -> None:
    batch = batch_of(facts(model), serving(accelerator, **settings))
    assert (batch.tokens, batch.sequences) == (tokens, sequences)


@pytest.mark.parametrize(
    ("accelerator", "dtype", "expected"),
    [
        pytest.param(H100, "float32", "bfloat16", id="float32 is halved"),
        pytest.param("nvidia-t4-16gb", "bfloat16", "float16", id="a T4 has no bfloat16"),
        pytest.param("nvidia-t4-16gb", "float32", "float16", id="nor for what is halved"),
        pytest.param(H100, "float16", "float16", id="float16 stays"),
        pytest.param(CPU, "float32", "bfloat16", id="on a CPU, too"),
    ],
)
def test_what_it_is_computed_in(accelerator: str, dtype: str, expected: str) -> None:
    assert compute_dtype(replace(facts(LLAMA), dtype=dtype), serving(accelerator)) == expected


def test_graphs_are_of_the_sizes_that_vllm_captures() -> None:
    batch = batch_of(facts(LLAMA), serving(L4))
    sizes = capture_sizes(batch, limit=512)
    assert (len(sizes), max(sizes), len([size for size in sizes if size <= 256])) == (51, 512, 35)
    assert planned(LLAMA, L4, eager=True).graphs == 0
    assert planned(LLAMA, L4).graphs == (51 + 35) * 32 * (1 << 18) + 2 * 64 * (1 << 20)


def test_activations_grow_with_the_step() -> None:
    # two streams of 4,096 and gate, up and their product of 14,336 numbers, of two bytes, for each of 8,192 tokens
    assert planned(LLAMA, H100).activations == 8192 * (2 * 4096 + 3 * 14_336) * 2
    assert planned(LLAMA, H100, max_num_batched_tokens=16_384).activations == 2 * planned(LLAMA, H100).activations
    assert planned(LLAMA, H100, tensor=2).activations < planned(LLAMA, H100).activations


def test_logits_are_the_peak_where_the_step_is_small() -> None:
    # 1,024 sequences: a stream and the logits
    found = planned(LLAMA, H100, max_num_batched_tokens=1024).activations
    assert found == (1024 * 4096 + 1024 * 128_256) * 2


def test_mla_makes_keys_and_values_of_a_long_context() -> None:
    # 65,536 tokens · (16 heads · (128 + 128) + 576) numbers
    assert planned("DeepSeek-V3", B200, tensor=8).activations > 65_536 * (16 * 256 + 576) * 2


def test_everything_together_is_what_vllm_may_take() -> None:
    found = planned(LLAMA, H100)
    parts = found.weights + found.activations + found.graphs + found.runtime + found.kv_cache
    assert found.fits
    assert parts == found.usable == math.ceil(cuda_memory(found.device) * 0.9)
    assert found.device == 81_559 << 20


def test_what_is_missing_is_what_one_sequence_lacks() -> None:
    found = planned(LLAMA, L4)
    assert not found.fits
    assert found.kv_cache > 0
    assert found.shortage == (131_072 + 16) * 131_072 - found.kv_cache  # with the block that vLLM holds back


@pytest.mark.parametrize(
    ("accelerator", "settings"),
    [
        pytest.param(L4, {}, id="room for some tokens"),
        pytest.param("nvidia-t4-16gb", {"tensor": 2}, id="split over two"),
        pytest.param(CPU, {"kv_cache_bytes": GIB}, id="on a CPU"),
    ],
)
def test_the_longest_sequence_fits_and_a_longer_one_does_not(accelerator: str, settings: dict[str, Any]) -> None:
    model = facts(LLAMA)
    longest = longest_fit(model, serving(accelerator, **settings))
    assert 0 < longest < 131_072
    assert planned(LLAMA, accelerator, max_model_len=longest, **settings).fits
    assert not planned(LLAMA, accelerator, max_model_len=longest + 16, **settings).fits


def test_a_length_that_vllm_may_choose_is_the_longest_that_fits() -> None:
    found = planned(LLAMA, L4, fit_length=True)
    assert found.fits
    assert found.max_model_len == longest_fit(facts(LLAMA), serving(L4))


def test_a_kv_cache_of_a_given_size_is_taken_as_it_is() -> None:
    found = planned(LLAMA, H100, kv_cache_bytes=20 * GIB)
    assert (found.kv_cache, found.kv_tokens) == (20 * GIB, 20 * GIB // 131_072)
    assert planned(LLAMA, H100, kv_cache_bytes=70 * GIB).shortage > 0


def test_more_than_is_free_cannot_be_taken() -> None:
    assert planned(LLAMA, H100, utilization=1.0).shortage > 0
    assert planned(LLAMA, H100, utilization=0.95).fits


def test_a_cpu_has_what_the_pod_may_take() -> None:
    settings = {"kv_cache_bytes": GIB, "max_model_len": 2048}
    assert planned("Qwen3-0.6B", CPU, **settings).device == 0
    assert planned("Qwen3-0.6B", CPU, memory_limit=6 * GIB, **settings).fits
    assert planned("Qwen3-0.6B", CPU, memory_limit=4 * GIB, **settings).shortage > 0


def test_a_gpu_that_may_be_any_is_not_planned() -> None:
    found = planned(LLAMA, "nvidia")
    assert (found.device, found.usable, found.kv_cache, found.kv_tokens, found.shortage) == (0, 0, 0, 0, 0)
    assert found.weights == 16_060_522_496


def test_the_stage_with_the_fewest_blocks_decides() -> None:
    """61 layers over two stages: 31 and 30, of which the last has the head."""
    model = replace(facts(LLAMA), layers=61, attention=(replace(facts(LLAMA).attention[0], layers=61),))
    found = estimate_memory(model, serving(H100, pipeline=2))
    one = estimate_memory(model, serving(H100))
    assert found.kv_bytes_per_token == 31 * 2 * 8 * 128 * 2
    assert found.kv_tokens > 2 * one.kv_tokens


def test_adapters_have_their_places() -> None:
    one, two = (planned(LLAMA, H100, adapters=count, adapter_rank=16).adapters for count in (1, 2))
    wide = 4 * 4096 + 4 * 4096 + 2 * (4096 + 1024) - 2 * 4096 - 2 * 4096 + 3 * (4096 + 14_336) + 2 * 4096
    assert one == pytest.approx(32 * 16 * 2 * wide, rel=0.2)
    assert two == 2 * one
