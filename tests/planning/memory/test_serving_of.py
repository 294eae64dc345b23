"""How a spec is run: its fields, and what extraArgs say of the same settings after them."""

from typing import Any

import pytest

from tests.planning.memory.known import facts
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.serving_of import serving_of

GIB = 1 << 30


def _served(accelerator: str = "nvidia-h100-80gb", *, adapters: int = 0, **spec: Any) -> Serving:
    model: dict[str, Any] = {"source": "hf://org/model"}
    if adapters:
        model["adapters"] = [{"name": f"a{index}", "source": f"hf://org/a{index}"} for index in range(adapters)]
    parsed = parse_spec("chat", {"model": model, "accelerator": accelerator, **spec})
    return serving_of(parsed, find_accelerator(accelerator))


def test_a_small_spec_leaves_all_to_vllm() -> None:
    assert _served() == Serving(accelerator=find_accelerator("nvidia-h100-80gb"))


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        pytest.param({"parallelism": {"tensor": 4, "pipeline": 2}}, {"tensor": 4, "pipeline": 2}, id="parallelism"),
        pytest.param(
            {"engine": {"maxModelLen": 4096, "dtype": "float16", "quantization": "fp8", "gpuMemoryUtilization": "0.8"}},
            {"max_model_len": 4096, "dtype": "float16", "quantization": "fp8", "utilization": 0.8}, id="engine",
        ),
        pytest.param(
            {"engine": {"kvCache": {"dtype": "fp8", "blockSize": 32}}}, {"kv_dtype": "fp8", "block_size": 32}, id="kvCache"
        ),
        pytest.param(
            {"engine": {"batching": {"maxNumSeqs": 64, "maxNumBatchedTokens": 4096, "chunkedPrefill": False}}},
            {"max_num_seqs": 64, "max_num_batched_tokens": 4096, "chunked_prefill": False}, id="batching",
        ),
        pytest.param({"engine": {"prefixCaching": False}}, {"prefix_caching": False}, id="prefixCaching"),
        pytest.param(
            {"engine": {"speculative": {"method": "ngram", "numTokens": 3}}}, {"draft_tokens": 3}, id="guesses from the prompt"
        ),
        pytest.param({"adapters": 3}, {"adapters": 3}, id="three adapters"),
        pytest.param({"adapters": 20}, {"adapters": 8}, id="eight adapters at a time"),
    ],
)  # fmt: skip
def test_fields(spec: dict[str, Any], changed: dict[str, Any]) -> None:
    assert _served(**spec) == Serving(accelerator=find_accelerator("nvidia-h100-80gb"), **changed)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        pytest.param(["--max-model-len", "2048"], {"max_model_len": 2048}, id="a flag and its value"),
        pytest.param(["--max_model_len=2k"], {"max_model_len": 2000}, id="underscores, and thousands"),
        pytest.param(["--max-model-len", "auto"], {"fit_length": True}, id="a length that vLLM finds"),
        pytest.param(["--kv-cache-memory-bytes", "20G"], {"kv_cache_bytes": 20 * GIB}, id="powers of two"),
        pytest.param(["--enforce-eager"], {"eager": True}, id="a switch"),
        pytest.param(["--enforce-eager", "--no-enforce-eager"], {}, id="a switch that is taken back"),
        pytest.param(["--no-enable-prefix-caching"], {"prefix_caching": False}, id="a switch that says no"),
        pytest.param(["-q", "fp8"], {"quantization": "fp8"}, id="a short name"),
        pytest.param(["--gpu-memory-util", "0.5"], {"utilization": 0.5}, id="the beginning of a name"),
        pytest.param(["--block-size", "64", "--max-num-seqs", "8"], {"block_size": 64, "max_num_seqs": 8}, id="two flags"),
        pytest.param(["--gpu-memory-utilization", "most"], {}, id="what cannot be read is vLLM's to refuse"),
        pytest.param(["--seed", "1"], {}, id="what changes nothing here"),
    ],
)
def test_extra_arguments_come_last(words: list[str], changed: dict[str, Any]) -> None:
    assert _served(engine={"extraArgs": words}) == Serving(accelerator=find_accelerator("nvidia-h100-80gb"), **changed)


def test_extra_arguments_win() -> None:
    assert _served(engine={"maxModelLen": 4096, "extraArgs": ["--max-model-len", "512"]}).max_model_len == 512


@pytest.mark.parametrize(
    ("engine", "changed"),
    [
        pytest.param({}, {"kv_cache_bytes": GIB}, id="1 GiB for the KV cache"),
        pytest.param({"extraArgs": ["--kv-cache-memory-bytes", "2G"]}, {"kv_cache_bytes": 2 * GIB}, id="as it is told"),
        pytest.param(
            {"resources": {"limits": {"memory": "6Gi"}}}, {"kv_cache_bytes": GIB, "memory_limit": 6 * GIB}, id="a pod's limit"
        ),
        pytest.param(
            {"resources": {"limits": {"memory": "1.5G"}}}, {"kv_cache_bytes": GIB, "memory_limit": 1_500_000_000},
            id="a limit in powers of ten",
        ),
    ],
)  # fmt: skip
def test_a_cpu(engine: dict[str, Any], changed: dict[str, Any]) -> None:
    assert _served("cpu", engine=engine) == Serving(accelerator=find_accelerator("cpu"), **changed)


def test_a_cpu_has_one_place_more_than_adapters() -> None:
    assert _served("cpu", adapters=2).adapters == 3


def test_a_draft_is_taken_as_it_is() -> None:
    spec = {"method": "draft", "draftModel": "hf://org/small"}
    parsed = parse_spec(
        "chat", {"model": {"source": "hf://org/m"}, "accelerator": "nvidia-l4-24gb", "engine": {"speculative": spec}}
    )
    found = serving_of(parsed, find_accelerator("nvidia-l4-24gb"), draft=facts("Qwen3-0.6B"))
    assert (found.draft, found.draft_tokens) == (facts("Qwen3-0.6B"), 5)
