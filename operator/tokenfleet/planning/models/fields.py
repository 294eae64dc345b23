"""Reads a model's config.json: each number by all the names that models have for it.

The names are those that vLLM 0.32 looks for (transformers_utils/model_arch_config_convertor.py) and those that transformers
maps to them (attribute_map of its configurations). What is missing, or no number, raises UnknownModel, which says which field.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tokenfleet.errors import TokenfleetError

Config: TypeAlias = Mapping[str, Any]

LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
VOCABULARY: Final = ("vocab_size", "padded_vocab_size")
KV_HEADS: Final = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
EXPERTS: Final = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
EXPERTS_PER_TOKEN: Final = (
    *("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k"),
    "experts_per_token",
)
INTERMEDIATE: Final = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
EXPERT_INTERMEDIATE: Final = ("moe_intermediate_size", "expert_ffn_hidden_size")

_TEXT_PARTS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where a model of several kinds of input keeps the language model's configuration."""
_LEFT_OUT: Final[Mapping[str, Config]] = MappingProxyType(
    {
        "gemma3_text": {
            "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
            "sliding_window": 4096,
        },
        "llama": {
            "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "max_position_embeddings": 2048,
        },
    }
)  # fmt: skip
"""By model_type, what a configuration within another one leaves out where it is as transformers has it by default."""


class UnknownModel(TokenfleetError):
    """Nothing can be planned for the model; the message says what is missing or not understood, in one sentence."""


def text_config(config: Config) -> Config:
    """Of the language model."""
    for name in _TEXT_PARTS:
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return (
                text_config(inner) if name == "thinker_config" else {**_LEFT_OUT.get(str(inner.get("model_type")), {}), **inner}
            )
    return config


def architecture_of(config: Config) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0]
    raise UnknownModel('config.json names no architecture; it needs a line such as "architectures": ["LlamaForCausalLM"].')


def model_type(config: Config) -> str:
    return str(text_config(config).get("model_type") or config.get("model_type") or "")


def optional(config: Config, names: tuple[str, ...]) -> int | None:
    """The first of the fields that has a whole number above 0; of a list of them, the largest."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
            value = max(value)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def required(config: Config, names: tuple[str, ...]) -> int:
    value = optional(config, names)
    if value is None:
        raise UnknownModel(
            f"config.json has no {names[0]}, or none that is a number above 0. Copy the model's own config.json."
        )
    return value


def flag(config: Config, name: str) -> bool:
    return config.get(name) is True
