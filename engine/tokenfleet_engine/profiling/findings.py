"""The contents of profile.json: what was measured, on what, and the raw samples.

Plain dictionaries, since JSON is what leaves here; docs/profiler.md describes each field, and SCHEMA counts its changes.
Seconds, bytes and tokens throughout, no other units. Every row of a table stands here with all the samples it came from. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tokenfleet_engine.profiling.devices import Memory
from tokenfleet_engine.profiling.measure import DecodeResult, Measured, PrefillResult
from tokenfleet_engine.profiling.plan import KVCache, Limits
from tokenfleet_engine.profiling.spread import spread

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """All that is not a measurement."""

    created: str
    """ISO 8601, UTC."""
    versions: Mapping[str, str]
    device: Mapping[str, str]
    model: Mapping[str, Any]
    engine: Mapping[str, Any]
    settings: Mapping[str, Any]
    limits: Limits
    loaded: Memory
    """Before anything was measured."""
    loaded_weight_bytes: int | None


def build_findings(measured: Measured, around: Circumstances) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created": around.created,
        "versions": dict(around.versions),
        "device": dict(around.device),
        "model": dict(around.model),
        "engine": dict(around.engine),
        "settings": dict(around.settings),
        "prefill": [_prefill(result) for result in measured.prefill],
        "decode": [_decode(result) for result in measured.decode],
        "memory": _memory(measured, around),
        "skipped": [asdict(skipped) for skipped in measured.skipped],
        "steps": [step.as_json() for step in measured.steps],
    }


def _prefill(result: PrefillResult) -> dict[str, Any]:
    seconds = spread(result.seconds)
    return {
        "prompt_tokens": result.prompt_tokens,
        "steps": result.steps,
        "seconds": asdict(seconds),
        "tokens_per_second": result.prompt_tokens / seconds.median,
        "samples": list(result.seconds),
    }


def _decode(result: DecodeResult) -> dict[str, Any]:
    """A sequence's inter-token latency is the step's time, divided where a step gives a sequence several tokens."""
    seconds = spread(result.seconds)
    tokens_per_step = result.output_tokens / len(result.seconds)
    per_sequence = tokens_per_step / result.point.sequences
    return {
        "sequences": result.point.sequences,
        "context_tokens": result.point.context_tokens,
        "mean_context_tokens": result.mean_context_tokens,
        "seconds": asdict(seconds),
        "inter_token_seconds": seconds.median / per_sequence,
        "tokens_per_second": tokens_per_step / seconds.median,
        "samples": list(result.seconds),
    }


def _memory(measured: Measured, around: Circumstances) -> dict[str, Any]:
    cache = around.limits.cache
    return {
        "weights": {"on_disk_bytes": around.model.get("weight_bytes"), "loaded_bytes": around.loaded_weight_bytes},
        "kv_cache": {
            "bytes_per_token": cache.bytes_per_token,
            "block_bytes": cache.block_bytes,
            "block_tokens": list(cache.group_tokens),
            "blocks": cache.blocks,
            "bytes": cache.blocks * cache.block_bytes,
            "tokens": int(cache.blocks * cache.block_bytes / cache.bytes_per_token) if cache.group_tokens else 0,
        },
        "after_loading": asdict(around.loaded),
        "by_context": _by_context(measured.prefill, cache),
        "by_batch": [
            {**asdict(result.point), **_held(result.blocks, cache), "memory": asdict(result.memory)}
            for result in measured.decode
        ],
    }


def _by_context(results: Sequence[PrefillResult], cache: KVCache) -> list[dict[str, Any]]:
    return [
        {
            "context_tokens": result.prompt_tokens,
            **_held(result.blocks, cache),
            "sequences_that_fit": (cache.blocks - 1) // result.blocks if result.blocks else None,
            "memory": asdict(result.memory),
        }
        for result in results
    ]


def _held(blocks: int, cache: KVCache) -> dict[str, int]:
    return {"blocks": blocks, "kv_bytes": blocks * cache.block_bytes}
