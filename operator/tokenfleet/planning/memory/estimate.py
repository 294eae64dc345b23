"""Where a replica's memory goes, and what is left for its KV cache. Pure.

A device has what vLLM may take of it; weights, activations, graphs and buffers go off, and the rest is divided into blocks, as
v1/worker/gpu_worker.py and v1/core/kv_cache_utils.py of vLLM 0.32 do it. Of a pipeline the stage with the fewest blocks
decides, since every stage keeps the same blocks (get_kv_cache_configs).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tokenfleet.planning.memory import weights, working
from tokenfleet.planning.memory.caches import caches_of
from tokenfleet.planning.memory.choices import GIB, Batch, batch_of, model_length, on_cpu
from tokenfleet.planning.memory.groups import Pool, pool_of
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.memory.stages import Stage, stages_of
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

Advice = Callable[[ModelFacts, Serving], tuple[str, ...]]
"""What to change where it does not fit."""


def estimate(model: ModelFacts, serving: Serving, *, advice: Advice | None = None) -> Memory:
    """advice: asked where the model does not fit; None: nobody wants to know."""
    length = model_length(model, serving)
    memory = _estimate(model, serving, length)
    if serving.fit_length and not memory.fits and (longest := longest_fit(model, serving)):
        memory = _estimate(model, serving, longest)
    if memory.fits or advice is None:
        return memory
    return replace(memory, fixes=advice(model, serving))


def longest_fit(model: ModelFacts, serving: Serving) -> int:
    """Tokens of the longest sequence that finds room, by bisection (_estimate_max_model_len_from_groups); 0: not one token."""
    low, high = 0, model_length(model, serving)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _estimate(model, serving, middle).fits else (low, middle - 1)
    return low


def sequences_at(model: ModelFacts, serving: Serving, memory: Memory, length: int) -> float:
    """Sequences of so many tokens that find room at the same time, with this memory."""
    if not memory.kv_tokens:
        return 0.0
    pool = pool_of(caches_of(model, serving, batch_of(model, serving)))
    return memory.max_concurrency * pool.blocks(memory.max_model_len) / pool.blocks(min(length, memory.max_model_len))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """One of a stage, before its KV cache is divided."""

    stage: Stage
    weights: int
    draft: int
    adapters: int
    activations: int
    graphs: int
    runtime: int
    available: int
    """For the KV cache; below 0 where not even the rest finds room."""
    block: int
    """Bytes of one block of the pool."""
    lacking: int
    """Bytes that are missing whatever the KV cache needs."""

    @property
    def blocks(self) -> int:
        return max(0, self.available) // self.block if self.block else 1


def _estimate(model: ModelFacts, serving: Serving, length: int) -> Memory:
    serving = replace(serving, max_model_len=length)
    batch = batch_of(model, serving)
    pool = pool_of(caches_of(model, serving, batch))
    devices = [_device(model, serving, batch, pool, stage) for stage in stages_of(model, serving.pipeline)]
    wanted = pool.blocks(length)
    fullest = min(devices, key=lambda device: device.available - device.block * (wanted + 1))
    known = _known(serving)
    blocks = min(device.blocks for device in devices) if known else 0
    concurrency = blocks / wanted if wanted else 0.0
    return Memory(
        device=_all(serving),
        usable=_usable(serving),
        weights=fullest.weights,
        draft=fullest.draft,
        adapters=fullest.adapters,
        activations=fullest.activations,
        graphs=fullest.graphs,
        runtime=fullest.runtime,
        kv_cache=max(0, fullest.available) if known else 0,
        kv_bytes_per_token=pool.growth() * fullest.block,
        block_size=pool.groups[0].layers[0][0].block_size if pool.groups else 0,
        kv_tokens=int(concurrency * length),
        max_model_len=length,
        max_concurrency=concurrency,
        shortage=max(_shortage(device, wanted) for device in devices) if known else 0,
    )


def _device(model: ModelFacts, serving: Serving, batch: Batch, pool: Pool, stage: Stage) -> _Device:
    own = weights.stage_bytes(model, serving, stage)
    draft = _draft_bytes(serving, stage)
    adapters = weights.adapter_bytes(model, serving)
    activations = working.activation_bytes(model, serving, batch, stage)
    graphs = working.graph_bytes(serving, batch, stage)
    runtime = working.runtime_bytes(model, serving, batch, stage, pool)
    rest = own + draft + adapters + activations + graphs + runtime
    available, lacking = _left(serving, rest)
    return _Device(
        stage=stage,
        weights=own,
        draft=draft,
        adapters=adapters,
        activations=activations,
        graphs=graphs,
        runtime=runtime,
        available=available,
        block=pool.block_bytes(stage=stage.layers, layers=model.layers),
        lacking=lacking,
    )


def _left(serving: Serving, rest: int) -> tuple[int, int]:
    """For the KV cache, and what is missing whatever that needs. rest: all else that the device holds."""
    if serving.kv_cache_bytes is None and not on_cpu(serving.accelerator):
        return _usable(serving) - rest, max(0, _usable(serving) - _free(serving))
    kept = GIB if serving.kv_cache_bytes is None else serving.kv_cache_bytes
    limit = serving.memory_limit if on_cpu(serving.accelerator) else _free(serving)
    return kept, 0 if limit is None else max(0, rest + kept - limit)


def _shortage(device: _Device, wanted: int) -> int:
    """vLLM holds one block back for what is nowhere (BlockPool.null_block)."""
    needed = device.block * (wanted + 1) if device.block else 0
    return max(device.lacking, needed - device.available, 0)


def _draft_bytes(serving: Serving, stage: Stage) -> int:
    """On the last stage, which alone guesses ahead, with as many devices as the model's."""
    if serving.draft is None or not stage.last:
        return 0
    whole = Stage(layers=serving.draft.layers, first=True, last=True)
    return weights.stage_bytes(serving.draft, replace(serving, quantization=None, draft=None), whole)


def _known(serving: Serving) -> bool:
    return on_cpu(serving.accelerator) or serving.accelerator.memory is not None


def _all(serving: Serving) -> int:
    return (serving.memory_limit or 0) if on_cpu(serving.accelerator) else serving.accelerator.memory or 0


def _usable(serving: Serving) -> int:
    """vllm/v1/worker/utils.py:request_memory."""
    if on_cpu(serving.accelerator):
        return _all(serving)
    return math.ceil(working.cuda_memory(serving.accelerator.memory) * serving.utilization) if serving.accelerator.memory else 0


def _free(serving: Serving) -> int:
    """Of a GPU that nobody else uses, once CUDA is there."""
    return working.cuda_memory(serving.accelerator.memory) - working.CONTEXT if serving.accelerator.memory else 0
