"""What a model's config.json says in numbers: vocabulary, heads, the longest sequence, the KV cache of one token.

The same numbers decide what vLLM refuses, and they are derived as vLLM 0.32 derives them (its sources are named at each).
Where a configuration leaves something to the model's code, the answer is None: a check that is not sure must stay silent.
Reads no file.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

Config: TypeAlias = Mapping[str, Any]

_LENGTH_KEYS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_SCALED_ALREADY: Final = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
"""Kinds of RoPE whose max_position_embeddings is the length after scaling."""
PLAIN_ATTENTION: Final = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
    }
)
"""Each layer keeps keys and values of every token, unless `_PARTLY` says otherwise."""
_PARTLY: Final = ("sliding_window", "attention_chunk_size", "layer_types", "dual_chunk_attention_config")


def text_config(config: Config) -> Config:
    """Where a model of several kinds of input keeps the language model's part."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def number(config: Config, name: str) -> int | None:
    """Of the language model; None where it says nothing, or no positive number."""
    value = text_config(config).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def longest_sequence(config: Config) -> int | None:
    """Tokens; vllm/config/model.py:_get_and_verify_max_len with derive_max_model_len_and_key."""
    inner = text_config(config)
    lengths = [length for name in _LENGTH_KEYS if (length := number(config, name))]
    if not lengths:
        return None
    unscaled = number(config, "model_max_length") or min(lengths)
    if "gemma3" in str(inner.get("model_type")):
        return unscaled
    return int(unscaled * max([1.0, *_rope_factors(inner)]))


def cache_elements_per_token(config: Config, *, architecture: str) -> int | None:
    """Numbers that all layers keep of one token: its keys and values. None where not every layer keeps them all."""
    inner = text_config(config)
    windows = [name for name in _PARTLY if inner.get(name)]
    if inner.get("use_sliding_window") is False:
        windows = [name for name in windows if name != "sliding_window"]
    if architecture not in PLAIN_ATTENTION or _keeps_less(inner, windows):
        return None
    layers, heads, hidden = (number(config, name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (layers and heads and hidden):
        return None
    return layers * 2 * (number(config, "num_key_value_heads") or heads) * (number(config, "head_dim") or hidden // heads)


def _keeps_less(inner: Config, windows: list[str]) -> bool:
    layer_types = inner.get("layer_types") or []
    return any(name != "layer_types" for name in windows) or any(kind != "full_attention" for kind in layer_types)


def _rope_factors(inner: Config) -> Iterator[float]:
    ropes = inner.get("rope_parameters") or inner.get("rope_scaling")
    if not isinstance(ropes, dict):
        return
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    for rope in nested or [ropes]:
        factor = rope.get("factor")
        if isinstance(factor, int | float) and rope.get("rope_type", rope.get("type")) not in _SCALED_ALREADY:
            yield float(factor)
