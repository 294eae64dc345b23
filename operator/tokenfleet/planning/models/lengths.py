"""The longest sequence of a model, and the one that vLLM serves where nobody says how long.

Derived as vllm/config/model.py:_get_and_verify_max_len of vLLM 0.32 derives it, as tokenfleet_engine.launch.model_config does
for the engine's own checks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tokenfleet.planning.models.fields import Config, optional

_NAMES: Final = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions"),
    *("max_sequence_length", "max_seq_length", "seq_len"),
)
_SCALED_ALREADY: Final = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
"""Kinds of RoPE whose max_position_embeddings is the length after scaling."""


def longest_sequence(text: Config) -> int | None:
    """In tokens; None where the configuration does not say."""
    lengths = [length for name in _NAMES if (length := optional(text, (name,)))]
    if not lengths:
        return None
    unscaled = optional(text, ("model_max_length",)) or min(lengths)
    if "gemma3" in str(text.get("model_type")):
        return unscaled
    factors = [
        float(rope["factor"])
        for rope in _ropes(text)
        if isinstance(rope.get("factor"), int | float) and _kind(rope) not in _SCALED_ALREADY
    ]
    return int(unscaled * max([1.0, *factors]))


def served_sequence(text: Config) -> int | None:
    """What vLLM serves by itself: with LongRoPE only as many tokens as the model was first trained with."""
    original = optional(text, ("original_max_position_embeddings",))
    if original and any(_kind(rope) == "longrope" for rope in _ropes(text)):
        return original
    return longest_sequence(text)


def _kind(rope: Mapping[str, Any]) -> object:
    """`su` is what LongRoPE was called first; vLLM renames it (transformers_utils/config.py:patch_rope_parameters_dict)."""
    kind = rope.get("rope_type", rope.get("type"))
    return "longrope" if kind == "su" else kind


def _ropes(text: Config) -> Iterator[Mapping[str, Any]]:
    ropes = text.get("rope_parameters") or text.get("rope_scaling")
    if isinstance(ropes, Mapping):
        nested = [rope for rope in ropes.values() if isinstance(rope, Mapping)]
        yield from nested or [ropes]
