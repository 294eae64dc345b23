"""What each layer of a model keeps of a sequence, by its config.json: the layers that keep alike, with how many they are.

A layer's kind comes from `layer_types`, or from the pattern that transformers makes them of where an older config.json has
none; a model without either has one kind. Which window counts is vLLM's choice (0.32, engine/arg_utils.py:create_engine_config
and each model's attention): a window of the whole configuration holds only where every layer slides.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tokenfleet.planning.model import Attention, Keeping
from tokenfleet.planning.models import fields
from tokenfleet.planning.models.fields import Config, UnknownModel, optional, required
from tokenfleet.planning.models.states import state_bytes

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"
_KEEPING: Final[Mapping[str, Keeping | None]] = MappingProxyType(
    {
        FULL: "full", "attention": "full", "global": "full", "*": "full", "full": "full",
        SLIDING: "sliding", "sliding": "sliding", "local": "sliding", "chunked_attention": "chunked",
        "linear_attention": "state", "mamba": "state", "mamba2": "state", "conv": "state", "M": "state",
        "mlp": None, "moe": None, "-": None, "E": None,
    }
)  # fmt: skip
"""By what configurations call a layer's kind; None: it keeps nothing."""
_PATTERNS: Final[Mapping[str, Callable[[int, Config], str]]] = MappingProxyType(
    {
        "gemma2": lambda index, _: FULL if (index + 1) % 2 == 0 else SLIDING,
        "gemma3_text": lambda index, text: _every(index, text.get("sliding_window_pattern", 6)),
        "gemma3": lambda index, text: _every(index, text.get("sliding_window_pattern", 6)),
        "gemma3n_text": lambda index, _: _every(index, 5),
        "cohere2": lambda index, text: _every(index, text.get("sliding_window_pattern", 4)),
        "olmo3": lambda index, _: _every(index, 4),
        "exaone4": lambda index, text: _every(index, text.get("sliding_window_pattern", 4)),
        "gpt_oss": lambda index, _: FULL if index % 2 else SLIDING,
        "llama4_text": lambda index, text: "chunked_attention" if _rotates(index, text) and _chunks(text) else FULL,
        "qwen3_next": lambda index, text: _linear_but_every(index, text.get("full_attention_interval", 4)),
        "qwen3_5_text": lambda index, text: _linear_but_every(index, text.get("full_attention_interval", 4)),
        "qwen3_5_moe_text": lambda index, text: _linear_but_every(index, text.get("full_attention_interval", 4)),
        "jamba": lambda index, text: (
            "attention" if index % text.get("attn_layer_period", 8) == text.get("attn_layer_offset", 4) else "mamba"
        ),
        "bamba": lambda index, text: "attention" if index in (text.get("attn_layer_indices") or ()) else "mamba",
        "lfm2": lambda index, text: FULL if index in (text.get("full_attn_idxs") or ()) else "conv",
    }
)
"""By model_type: what transformers makes of a config.json without layer_types (modeling_*/configuration_*.py)."""
_LATENT: Final = frozenset(
    {
        *("axk1", "deepseek_v2", "deepseek_v3", "deepseek_vl_v2", "glm4_moe_lite", "kimi_k2", "pangu_ultra_moe"),
    }
)
"""model_types that vLLM runs with MLA (model_arch_config_convertor.py:is_deepseek_mla) and that keep nothing beside it."""
_CHUNK: Final = 8192
"""Tokens of Llama 4's, where its config.json has none."""
_UNTOLD: Final = ("compress_ratios", "index_topk", "block_configs", "dual_chunk_attention_config", "linear_attn_config")
"""Fields of models whose cache has parts that no other field tells: indexes of sparse attention, layers that all differ."""


def attention_of(text: Config, *, dtype: str) -> tuple[Attention, ...]:
    """Of the language model's configuration. Raises UnknownModel."""
    if named := next((name for name in _UNTOLD if text.get(name)), None):
        raise UnknownModel(f"config.json has {named}, and what such a model keeps of a token cannot be told from it.")
    count = required(text, fields.LAYERS)
    latent = _latent(text)
    if latent is not None:
        return (replace(latent, layers=count),)
    own = count - (optional(text, ("num_kv_shared_layers",)) or 0)
    kinds = Counter(_kinds(text, count)[:own])
    made = [_layers(text, keeping, number, dtype=dtype) for keeping, number in kinds.items() if keeping is not None]
    return tuple(made)


def _kinds(text: Config, count: int) -> list[Keeping | None]:
    named = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    pattern = _PATTERNS.get(str(text.get("model_type")))
    if named is not None:
        kinds = [str(kind) for kind in named][:count]
    elif pattern is not None:
        kinds = [pattern(index, text) for index in range(count)]
    else:
        kinds = [SLIDING if _slides(text) else FULL] * count
    if len(kinds) < count:
        raise UnknownModel(f"config.json names the kinds of {len(kinds)} layers, and num_hidden_layers is {count}.")
    if unknown := sorted(set(kinds) - _KEEPING.keys()):
        raise UnknownModel(f"config.json has layers of the kind {unknown[0]}, and what they keep of a token cannot be told.")
    found = [_KEEPING[kind] for kind in kinds]
    if "sliding" in found and not optional(text, ("sliding_window",)):
        return ["full" if kind == "sliding" else kind for kind in found]
    return found


def _slides(text: Config) -> bool:
    """Whether every layer of a model without a pattern does. Qwen says so by two more fields (configuration_qwen2.py)."""
    if "use_sliding_window" in text or "max_window_layers" in text:
        first = text.get("max_window_layers", 0)
        return fields.flag(text, "use_sliding_window") and isinstance(first, int) and first == 0
    return text.get("sliding_window") is not None


def _layers(text: Config, keeping: Keeping, count: int, *, dtype: str) -> Attention:
    heads = required(text, fields.HEADS)
    if keeping == "state":
        size, in_float32 = state_bytes(text, dtype=dtype)
        return Attention(
            layers=count, keeping="state", heads=0, kv_heads=0, head_dim=0, state_bytes=size, state_bytes_float32=in_float32
        )  # fmt: skip
    head_dim = optional(text, ("head_dim", "hidden_size_per_head", "attention_head_dim"))
    head_dim = head_dim or required(text, fields.HIDDEN) // heads
    value_dim = optional(text, ("v_head_dim",))
    return Attention(
        layers=count,
        keeping=keeping,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=head_dim,
        value_dim=None if value_dim == head_dim else value_dim,
        window=_window(text, keeping),
    )


def _window(text: Config, keeping: Keeping) -> int | None:
    if keeping == "sliding":
        own = 1 if text.get("model_type") == "cohere2" else 0  # it sees a window and the token itself: commandr.py
        return required(text, ("sliding_window",)) + own
    return optional(text, ("attention_chunk_size",)) or _CHUNK if keeping == "chunked" else None


def _kv_heads(text: Config, heads: int) -> int:
    """model_arch_config_convertor.py:get_total_num_kv_heads, and those of Falcon, DBRX and GPT-BigCode."""
    kind = text.get("model_type")
    if kind in {"falcon", "gpt_bigcode"} and not text.get("new_decoder_architecture") and text.get("multi_query", True):
        return 1
    inner = text.get("attn_config")
    nested = optional(inner, ("kv_n_heads",)) if isinstance(inner, Mapping) else None
    return nested or optional(text, fields.KV_HEADS) or heads


def _latent(text: Config) -> Attention | None:
    rank = optional(text, ("kv_lora_rank",))
    if rank is None:
        return None
    if (kind := text.get("model_type")) not in _LATENT:
        raise UnknownModel(f"config.json has kv_lora_rank, and how vLLM keeps the tokens of a {kind} model cannot be told.")
    rotary = required(text, ("qk_rope_head_dim",))
    return Attention(
        layers=1,
        keeping="latent",
        heads=required(text, fields.HEADS),
        kv_heads=1,
        head_dim=rotary + (optional(text, ("qk_nope_head_dim",)) or 0),
        value_dim=optional(text, ("v_head_dim",)),
        latent_dim=rank + rotary,
        rotary_dim=rotary,
    )


def _every(index: int, pattern: Any) -> str:
    """Every so-manieth layer sees all. As a text it is a letter for each layer of the pattern: LLLG."""
    if isinstance(pattern, str) and pattern:
        return FULL if pattern[index % len(pattern)] == "G" else SLIDING
    return FULL if isinstance(pattern, int) and pattern > 0 and (index + 1) % pattern == 0 else SLIDING


def _linear_but_every(index: int, interval: Any) -> str:
    return FULL if isinstance(interval, int) and interval > 0 and (index + 1) % interval == 0 else "linear_attention"


def _chunks(text: Config) -> bool:
    return text.get("attention_chunk_size", _CHUNK) is not None


def _rotates(index: int, text: Config) -> bool:
    """Llama 4: layers with rotary embeddings see a chunk, the others all."""
    listed = text.get("no_rope_layers")
    if isinstance(listed, list) and index < len(listed):
        return bool(listed[index])
    interval = text.get("no_rope_layer_interval", 4)
    return isinstance(interval, int) and (index + 1) % interval != 0
