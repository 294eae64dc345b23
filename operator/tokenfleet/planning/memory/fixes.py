"""What to change where a model does not fit: a phrase for each way out, the least change first, each of them tried.

A way that would not make it fit is left out, so whoever follows a phrase alone has a model that fits. Where several changes
together are needed, the last phrase says which.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tokenfleet.planning.accelerators import Accelerator, accelerators
from tokenfleet.planning.memory.choices import model_length, on_cpu
from tokenfleet.planning.memory.estimate import estimate, longest_fit
from tokenfleet.planning.memory.weights import LOADED_BITS
from tokenfleet.planning.memory.working import CONTEXT, cuda_memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

_LEAST_LENGTH: Final = 1024
"""Tokens; a shorter limit serves nobody."""
_ROUND: Final = 256
_QUANTIZED_KV: Final = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2", "nvfp4", "int8_per_token_head", "int4_per_token_head"})


def fixes(model: ModelFacts, serving: Serving) -> tuple[str, ...]:
    """Of what does not fit."""
    if on_cpu(serving.accelerator):
        return tuple(_on_cpu(model, serving))
    return tuple(_on_gpu(model, serving))


def tensor_sizes(model: ModelFacts, accelerator: Accelerator) -> tuple[int, ...]:
    """Devices that can share each layer: they divide the model's heads, and stand in one node.

    vllm/config/model.py:verify_with_parallel_config refuses others.
    """
    heads = [each.heads for each in model.attention if each.heads] or [1]
    return tuple(
        size for size in (1, 2, 4, 8, 16, 32, 64) if size <= accelerator.per_node and all(count % size == 0 for count in heads)
    )


def _on_gpu(model: ModelFacts, serving: Serving) -> Iterator[str]:
    """vLLM ends where it is told to take more than is free, so that comes first, and goes with whatever else is needed."""
    highest = _highest_utilization(serving)
    if serving.utilization <= highest:
        yield from _ways(model, serving)
        return
    less = replace(serving, utilization=highest)
    change = f'engine.gpuMemoryUtilization to "{highest:.2f}" or less, since CUDA itself needs the rest'
    if _fits(model, less):
        yield f"set {change}"
    else:
        yield from (f"{way}, and set {change}" for way in _ways(model, less))


def _ways(model: ModelFacts, serving: Serving) -> Iterator[str]:
    yield from _length(model, serving)
    yield from _kv_dtype(model, serving)
    yield from _quantization(model, serving)
    yield from _tensor(model, serving)
    yield from _accelerator(model, serving)


def _fits(model: ModelFacts, serving: Serving) -> bool:
    return estimate(model, serving).fits


def _highest_utilization(serving: Serving) -> float:
    if serving.accelerator.memory is None:
        return 1.0
    total = cuda_memory(serving.accelerator.memory)
    return (total - CONTEXT) * 100 // total / 100


def _length(model: ModelFacts, serving: Serving) -> Iterator[str]:
    longest = longest_fit(model, serving)
    rounded = longest // _ROUND * _ROUND
    if rounded >= _LEAST_LENGTH:
        yield f"set engine.maxModelLen to {rounded} or less, instead of {model_length(model, serving)}"


def _kv_dtype(model: ModelFacts, serving: Serving) -> Iterator[str]:
    already = (serving.kv_dtype if serving.kv_dtype != "auto" else model.kv_dtype) in _QUANTIZED_KV
    if already or _is_old(serving.accelerator):
        return
    if _fits(model, replace(serving, kv_dtype="fp8")):
        yield "set engine.kvCache.dtype to fp8, which halves the KV cache"


def _is_old(accelerator: Accelerator) -> bool:
    """Before compute capability 8.0, for which vLLM has no kernels of fp8."""
    return bool(accelerator.flops) and "bf16" not in accelerator.flops


def _quantization(model: ModelFacts, serving: Serving) -> Iterator[str]:
    if model.quantization is not None or serving.quantization in LOADED_BITS or _is_old(serving.accelerator):
        return
    if _fits(model, replace(serving, quantization="fp8")):
        yield "set engine.quantization to fp8, which halves the weights while they are loaded"


def _tensor(model: ModelFacts, serving: Serving) -> Iterator[str]:
    larger = (size for size in tensor_sizes(model, serving.accelerator) if size > serving.tensor)
    for size in larger:
        if _fits(model, replace(serving, tensor=size)):
            yield f"set parallelism.tensor to {size}, so that {size * serving.pipeline} GPUs share it"
            return


def _accelerator(model: ModelFacts, serving: Serving) -> Iterator[str]:
    """The smallest class on which it fits with as many devices."""
    larger = (
        each for each in accelerators().values() if each.plannable and (each.memory or 0) > (serving.accelerator.memory or 0)
    )
    for each in sorted(larger, key=lambda accelerator: accelerator.memory or 0):
        if _fits(model, replace(serving, accelerator=each)):
            yield f"set accelerator to {each.name}"
            return
    yield from _both(model, serving)


def _both(model: ModelFacts, serving: Serving) -> Iterator[str]:
    """Larger devices, and more of them."""
    for each in sorted((each for each in accelerators().values() if each.plannable), key=lambda one: one.memory or 0):
        for size in tensor_sizes(model, each):
            if _fits(model, replace(serving, accelerator=each, tensor=max(size, serving.tensor))):
                yield f"set accelerator to {each.name} and parallelism.tensor to {max(size, serving.tensor)}"
                return


def _on_cpu(model: ModelFacts, serving: Serving) -> Iterator[str]:
    """A KV cache that one sequence fits into, and a limit that all of it fits into: what is lacking of the two."""
    yield from _length(model, serving)
    cache = estimate(model, replace(serving, memory_limit=None))
    kept = _round_up(cache.kv_cache + cache.shortage)
    whole = estimate(model, replace(serving, kv_cache_bytes=kept)) if cache.shortage else estimate(model, serving)
    changes = [f"--kv-cache-memory-bytes in engine.extraArgs to {kept}"] if cache.shortage else []
    if whole.shortage:
        changes.append(f"engine.resources.limits.memory to {_round_up(whole.device + whole.shortage) >> 20}Mi or more")
    yield f"set {' and '.join(changes)}"


def _round_up(size: int) -> int:
    """To whole MiB."""
    return -(-size >> 20) << 20
