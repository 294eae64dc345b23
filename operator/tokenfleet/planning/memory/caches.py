"""What each layer keeps in the KV cache, on one device: its page, the bytes of one block, and how many blocks a sequence takes.

As vllm/v1/kv_cache_interface.py of vLLM 0.32 has it (AttentionSpec, SlidingWindowSpec, MambaSpec, …), with what the
backends pack beside the numbers (customize_spec in v1/attention/backends). Layers that are alike stand here once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tokenfleet.planning.memory.choices import (
    ELEMENT_BYTES,
    Batch,
    block_size,
    compute_dtype,
    kv_dtype,
    on_cpu,
    tokens_in_flight,
)
from tokenfleet.planning.model import Attention, Keeping, ModelFacts
from tokenfleet.planning.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """Of one layer."""

    keeping: Keeping
    block_size: int
    """Tokens; of a state, those after which another one is kept."""
    page: int
    """Bytes of one block."""
    window: int = 0
    in_flight: int = 0
    """sliding, chunked: tokens that are not settled yet, beside the window."""
    states: int = 1
    """state: that one sequence keeps."""

    def blocks(self, length: int) -> int:
        """That one sequence of so many tokens holds at most (max_memory_usage_bytes of each kind)."""
        if self.keeping == "state":
            return self.states
        if self.keeping == "sliding":
            return -(-min(self.window - 1 + self.in_flight, length) // self.block_size) + 1
        if self.keeping == "chunked":
            return -(-min(self.window + self.in_flight, length) // self.block_size)
        return -(-length // self.block_size)


def caches_of(model: ModelFacts, serving: Serving, batch: Batch) -> tuple[tuple[LayerCache, int], ...]:
    """Each kind of layer with how many layers are of it, those of a draft model behind the model's."""
    size = _aligned_block_size(model, serving)
    found: dict[LayerCache, int] = {}
    for each, cache in _caches(model, serving, batch, size):
        found[cache] = found.get(cache, 0) + each.layers
    if serving.draft is not None:
        for each, cache in _caches(serving.draft, serving, batch, size):
            found[cache] = found.get(cache, 0) + each.layers
    return tuple(found.items())


def _caches(model: ModelFacts, serving: Serving, batch: Batch, size: int) -> Iterator[tuple[Attention, LayerCache]]:
    beside_full = any(each.keeping == "full" for each in model.attention)  # then vLLM lets chunks keep all (config/vllm.py)
    page = max((_token_bytes(each, model, serving) * size for each in model.attention if each.keeping != "state"), default=0)
    for each in model.attention:
        if each.keeping == "state":
            states = (2 if serving.prefix_caching else 1) + serving.draft_tokens
            own = _state_bytes(each, model, serving)
            yield each, LayerCache(keeping="state", block_size=size, page=max(page, own), states=states)
            continue
        keeping = "full" if each.keeping == "chunked" and beside_full else each.keeping
        cache = LayerCache(keeping=keeping, block_size=size, page=_token_bytes(each, model, serving) * size)
        if each.window is not None and keeping != "full":
            cache = replace(cache, window=each.window, in_flight=tokens_in_flight(serving, batch))
        yield each, cache


def _token_bytes(each: Attention, model: ModelFacts, serving: Serving) -> int:
    """Of one layer and one device. MLA's vector stands on every device of a group that shares the layer."""
    kind = kv_dtype(model, serving)
    if each.keeping == "latent":
        return int(each.latent_dim * _element_bytes(kind))
    heads = max(1, each.kv_heads // serving.tensor)
    sides = (each.head_dim, each.head_dim if each.value_dim is None else each.value_dim)
    return heads * sum(_side_bytes(side, kind) for side in sides)


def _side_bytes(numbers: int, kind: str) -> int:
    """Of one head's key or value, with its scales (triton_attn.py and flashinfer.py:customize_spec)."""
    if kind == "int4_per_token_head":
        return numbers // 2 + 4
    if kind.endswith("_per_token_head"):
        return numbers + 4
    if kind == "nvfp4":
        return numbers // 2 + numbers // 16
    return numbers * _element_bytes(kind)


def _element_bytes(kind: str) -> int:
    return ELEMENT_BYTES.get(kind, 1)


def _state_bytes(each: Attention, model: ModelFacts, serving: Serving) -> int:
    """The configuration's is counted in the type that it says; vLLM keeps it in the one that it computes in.

    On a CPU with AVX-512 the recurrence is in float32 (platforms/cpu.py:check_and_update_config).
    """
    if on_cpu(serving.accelerator):
        return -(-each.state_bytes_float32 // serving.tensor)
    said, used = ELEMENT_BYTES[model.dtype], ELEMENT_BYTES[compute_dtype(model, serving)]
    return -(-each.state_bytes * used // said // serving.tensor)


def _aligned_block_size(model: ModelFacts, serving: Serving) -> int:
    """Beside recurrent layers a block holds as many tokens as a state has bytes (interface.py:_align_hybrid_block_size)."""
    size = block_size(model, serving)
    states = [_state_bytes(each, model, serving) for each in model.attention if each.keeping == "state"]
    tokens = [_token_bytes(each, model, serving) for each in model.attention if each.keeping in {"full", "latent"}]
    if not states or not tokens:
        return size
    least = max(size, 32 if on_cpu(serving.accelerator) else 16)
    return max(size, least * -(-max(states) // (least * tokens[0])))
