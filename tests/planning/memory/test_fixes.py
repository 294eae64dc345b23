"""What is advised makes the model fit, and what would not is not advised."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.planning.memory.known import A100, CPU, GIB, H100, L4, facts, planned, serving
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.memory import estimate_memory, tensor_sizes
from tokenfleet.planning.serving import Serving


@pytest.mark.parametrize(
    ("name", "accelerator", "settings", "advice"),
    [
        pytest.param(
            "Llama-3.1-8B", L4, {},
            [
                "set engine.maxModelLen to 28672 or less, instead of 131072",
                "set parallelism.tensor to 2, so that 2 GPUs share it",
                "set accelerator to nvidia-a100-40gb",
            ],
            id="a long context on a small GPU",
        ),
        pytest.param(
            "Llama-3.1-8B", "nvidia-t4-16gb", {"max_model_len": 4096},
            [
                "set parallelism.tensor to 2, so that 2 GPUs share it",
                "set accelerator to nvidia-a10-24gb",
            ],
            id="weights that are larger than a GPU without fp8",
        ),
        pytest.param(
            "Llama-3.1-70B", L4, {"max_model_len": 8192},
            [
                "set parallelism.tensor to 8, so that 8 GPUs share it",
                "set accelerator to nvidia-b200-180gb",
            ],
            id="a large model on one small GPU",
        ),
        pytest.param(
            "DeepSeek-V3", H100, {"tensor": 8, "max_model_len": 16_384}, ["set accelerator to nvidia-h200-141gb"],
            id="nothing but larger GPUs helps",
        ),
    ],
)  # fmt: skip
def test_advice_begins_with_the_least_change(name: str, accelerator: str, settings: dict[str, Any], advice: list[str]) -> None:
    assert list(planned(name, accelerator, **settings).fixes) == advice


_ADVICE: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    (r"maxModelLen to (\d+)", lambda text: {"max_model_len": int(text)}),
    (r'gpuMemoryUtilization to "([\d.]+)"', lambda text: {"utilization": float(text)}),
    (r"kvCache.dtype to (fp8)", lambda text: {"kv_dtype": text}),
    (r"quantization to (fp8)", lambda text: {"quantization": text}),
    (r"extraArgs to (\d+)", lambda text: {"kv_cache_bytes": int(text)}),
    (r"limits.memory to (\d+)Mi", lambda text: {"memory_limit": int(text) << 20}),
    (r"accelerator to ([\w-]+)", lambda text: {"accelerator": find_accelerator(text)}),
    (r"tensor to (\d+)", lambda text: {"tensor": int(text)}),
)


def _followed(setting: Serving, fix: str) -> Serving:
    changes = [change(found[1]) for pattern, change in _ADVICE if (found := re.search(pattern, fix))]
    assert changes, fix
    return replace(setting, **{field: value for change in changes for field, value in change.items()})


@pytest.mark.parametrize(
    "name", ["Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-30B-A3B", "Gemma-2-9B", "DeepSeek-V3", "Mixtral-8x7B"]
)
@pytest.mark.parametrize("accelerator", ["nvidia-t4-16gb", L4, A100, H100])
@pytest.mark.parametrize("settings", [{}, {"utilization": 1.0}, {"max_model_len": 2048, "kv_dtype": "fp8"}])
def test_whoever_follows_one_advice_has_a_model_that_fits(name: str, accelerator: str, settings: dict[str, Any]) -> None:
    setting = serving(accelerator, **settings)
    memory = estimate_memory(facts(name), setting)
    assert memory.fits or memory.fixes
    for fix in memory.fixes:
        assert estimate_memory(facts(name), _followed(setting, fix)).fits, fix


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"kv_cache_bytes": GIB}, "--kv-cache-memory-bytes in engine.extraArgs", id="a long sequence in 1 GiB"),
        pytest.param(
            {"kv_cache_bytes": GIB, "memory_limit": 3 * GIB, "max_model_len": 2048}, "engine.resources.limits.memory",
            id="a limit below what the processes take",
        ),
        pytest.param(
            {"kv_cache_bytes": GIB, "memory_limit": 2 * GIB, "max_model_len": 40_960},
            " and engine.resources.limits.memory to ",
            id="both",
        ),
    ],
)  # fmt: skip
def test_advice_on_a_cpu(settings: dict[str, Any], words: str) -> None:
    setting = serving(CPU, **settings)
    memory = estimate_memory(facts("Qwen3-0.6B"), setting)
    assert any(words in fix for fix in memory.fixes)
    for fix in memory.fixes:
        assert estimate_memory(facts("Qwen3-0.6B"), _followed(setting, fix)).fits, fix


def test_nobody_is_advised_who_does_not_ask() -> None:
    memory = estimate_memory(facts("Llama-3.1-8B"), serving(L4), fixes=False)
    assert (memory.fits, memory.fixes) == (False, ())


def test_devices_divide_the_heads() -> None:
    assert tensor_sizes(facts("Llama-3.1-8B"), find_accelerator(H100)) == (1, 2, 4, 8)
    assert tensor_sizes(facts("Qwen2.5-7B"), find_accelerator(H100)) == (1, 2, 4)  # 28 heads
    assert tensor_sizes(facts("Llama-3.1-8B"), find_accelerator("nvidia-h100-nvl-94gb")) == (1, 2)  # of which a node has two
