"""How an LLMDeployment runs its model, as far as memory and speed depend on it: Serving, out of the spec. Pure.

`extraArgs` come last on the engine's command line and win, so what they say of the same settings wins here too. What vLLM
chooses by itself stays None: `memory` and `speed` know what it takes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.engine_flags import engine_flags
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

CPU_KV_CACHE_BYTES: Final = 1 << 30
"""What Tokenfleet gives an engine on a CPU (controller/resources/engine_command.py)."""
ADAPTERS_AT_ONCE: Final = 8
"""As many of the adapters have a place on a GPU at a time (tokenfleet_engine.launch.adapters)."""
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E)?")
_SCALES: Final = MappingProxyType(
    {"": 1, "m": 1e-3}
    | {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
    | {letter: 1000**power for power, letter in enumerate("kMGTPE", 1)}
)
_HUMAN: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
"""vllm/utils/argparse: 25.6k is 25,600, and 16K is 16,384."""


def serving_of(spec: LLMDeploymentSpec, accelerator: Accelerator, *, draft: ModelFacts | None = None) -> Serving:
    engine, speculative = spec.engine, spec.engine.speculative
    on_cpu = accelerator.resource is None
    adapters = len(spec.model.adapters)
    serving = Serving(
        accelerator=accelerator,
        tensor=spec.parallelism.tensor,
        pipeline=spec.parallelism.pipeline,
        dtype=engine.dtype,
        quantization=engine.quantization,
        kv_dtype=engine.kv_cache.dtype,
        utilization=float(engine.gpu_memory_utilization),
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.batching.max_num_seqs,
        max_num_batched_tokens=engine.batching.max_num_batched_tokens,
        chunked_prefill=engine.batching.chunked_prefill,
        prefix_caching=engine.prefix_caching,
        block_size=engine.kv_cache.block_size,
        kv_cache_bytes=CPU_KV_CACHE_BYTES if on_cpu else None,
        memory_limit=_bytes(engine.resources.limits.get("memory")) if on_cpu else None,
        draft=draft,
        draft_tokens=speculative.num_tokens if speculative is not None else 0,
        adapters=min(adapters, ADAPTERS_AT_ONCE) if not on_cpu else adapters + bool(adapters),
    )
    return _with_flags(serving, engine.extra_args)


def _with_flags(serving: Serving, words: Sequence[str]) -> Serving:
    """What cannot be read stays as it was: what a flag's value may be is vLLM's to say."""
    changes: dict[str, Any] = {}
    for name, value in _flags(words):
        if name in _SWITCHES:
            changes |= _SWITCHES[name]
        elif name == "--max-model-len" and value in {"auto", "-1"}:
            changes |= {"fit_length": True, "max_model_len": None}
        elif name in _VALUES and value is not None:
            field, read = _VALUES[name]
            if (found := read(value)) is not None:
                changes[field] = found
    return replace(serving, **changes)


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each flag by its full name, with the value that follows it, in `=` or in the next word."""
    for index, word in enumerate(words):
        if not word.startswith("-") or word in {"-", "--", "-1"}:
            continue
        name, equals, value = word.partition("=")
        following = words[index + 1] if index + 1 < len(words) else None
        yield _full_name(name.replace("_", "-")), value if equals else following


def _full_name(name: str) -> str:
    """A short name's long one; argparse takes a flag's beginning for the flag, too, where no other one begins like it."""
    known = engine_flags().options
    if exact := next((option for option in known if name in option.names), None):
        return name if name.startswith("--") else exact.names[0]
    near = [each for option in known for each in option.names if name.startswith("--") and each.startswith(name)]
    return near[0] if len(near) == 1 else name


def _whole(text: str) -> int | None:
    if text.isdecimal():
        return int(text)
    if (found := _HUMAN.fullmatch(text)) is None:
        return None
    letter = found[2]
    base = 1000 if letter.islower() else 1024
    return int(float(found[1]) * base ** ("kmgt".index(letter.lower()) + 1))


def _share(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bytes(quantity: str | None) -> int | None:
    found = _QUANTITY.fullmatch(quantity) if quantity is not None else None
    return int(float(found[1]) * _SCALES[found[2] or ""]) if found else None


_SWITCHES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "--enforce-eager": {"eager": True},
        "--no-enforce-eager": {"eager": False},
        "--enable-chunked-prefill": {"chunked_prefill": True},
        "--no-enable-chunked-prefill": {"chunked_prefill": False},
        "--enable-prefix-caching": {"prefix_caching": True},
        "--no-enable-prefix-caching": {"prefix_caching": False},
    }
)
_VALUES: Final[Mapping[str, tuple[str, Callable[[str], int | float | str | None]]]] = MappingProxyType(
    {
        "--kv-cache-memory-bytes": ("kv_cache_bytes", _whole),
        "--gpu-memory-utilization": ("utilization", _share),
        "--max-model-len": ("max_model_len", _whole),
        "--max-num-seqs": ("max_num_seqs", _whole),
        "--max-num-batched-tokens": ("max_num_batched_tokens", _whole),
        "--block-size": ("block_size", _whole),
        "--kv-cache-dtype": ("kv_dtype", str),
        "--dtype": ("dtype", str),
        "--quantization": ("quantization", str),
        "--max-lora-rank": ("adapter_rank", _whole),
        "--max-loras": ("adapters", _whole),
    }
)
