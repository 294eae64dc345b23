"""Makes ModelFacts of what an inspection found: config.json, and the names, types and shapes of the tensors. Pure.

Each part has a module in `models`. What cannot be told raises UnknownModel, with the field that is missing or not understood:
a plan that guesses would be worse than none.
"""

from collections.abc import Mapping
from typing import Any, Final

from tokenfleet.planning.model import ModelFacts, Part, Weights
from tokenfleet.planning.models import fields
from tokenfleet.planning.models.fields import Config, UnknownModel, optional, required, text_config
from tokenfleet.planning.models.layers import attention_of
from tokenfleet.planning.models.lengths import longest_sequence, served_sequence
from tokenfleet.planning.models.quantization import quantization_of
from tokenfleet.planning.models.tensors import Tensor, loaded, parameters_of, part_of, read_tensors, weights_of

__all__ = ["UnknownModel", "facts_of"]

_TIED: Final = frozenset(
    {"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "opt", "cohere", "cohere2", "bloom", "falcon", "mpt"}
)
"""model_types whose head is the embedding where config.json does not say otherwise (transformers' configurations)."""
_DTYPES: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def facts_of(document: Mapping[str, Any]) -> ModelFacts:
    """document: as tokenfleet_engine.inspection makes it. Raises UnknownModel."""
    config = document.get("config")
    if not isinstance(config, Mapping):
        raise UnknownModel("The document of the model has no config.json; inspect the model anew.")
    architecture, text = fields.architecture_of(config), text_config(config)
    if fields.flag(config, "is_encoder_decoder"):
        raise UnknownModel(f"{architecture} is an encoder with a decoder, and memory is planned for decoders alone.")
    quantization = quantization_of(config)
    tensors = _loaded(document, config, text)
    weights = weights_of(tensors)
    dtype = _dtype(config, text, weights)
    parameters = parameters_of(tensors, bits=quantization.bits)
    experts = optional(text, fields.EXPERTS) or 0 if any(each.part == "experts" for each in weights) else 0
    chosen = optional(text, fields.EXPERTS_PER_TOKEN) or 0 if experts else 0
    return ModelFacts(
        architecture=architecture,
        layers=required(text, fields.LAYERS),
        hidden_size=required(text, fields.HIDDEN),
        vocabulary=required(text, fields.VOCABULARY),
        dtype=dtype,
        attention=attention_of(text, dtype=dtype),
        weights=weights,
        context_tokens=longest_sequence(text),
        served_tokens=served_sequence(text),
        intermediate_size=_intermediate(text, experts),
        experts=experts,
        experts_per_token=chosen,
        quantization=quantization.method,
        kv_dtype=quantization.kv_dtype,
        parameters=sum(parameters.values()),
        active_parameters=_active(parameters, share=chosen / experts if experts else 0.0),
    )


def _loaded(document: Mapping[str, Any], config: Config, text: Config) -> tuple[Tensor, ...]:
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    if tied is None:
        tied = fields.model_type(config) in _TIED
    found = read_tensors(document)
    has_embedding = any(part_of(each.name) == "embedding" for each in found)
    return tuple(loaded(found, text, tied=bool(tied) and has_embedding))


def _dtype(config: Config, text: Config, weights: tuple[Weights, ...]) -> str:
    """As config.json says it or, where it does not, what most of the weights are in (get_torch_dtype)."""
    for each in (config, text):
        named = each.get("dtype") or each.get("torch_dtype")
        if isinstance(named, str) and named.removeprefix("torch.") in _DTYPES.values():
            return named.removeprefix("torch.")
    plain = [each for each in weights if each.dtype in _DTYPES]
    return _DTYPES[max(plain, key=lambda each: each.elements).dtype] if plain else "float32"


def _intermediate(text: Config, experts: int) -> int:
    of_expert = optional(text, fields.EXPERT_INTERMEDIATE) if experts else None
    return of_expert or optional(text, fields.INTERMEDIATE) or 4 * required(text, fields.HIDDEN)


def _active(parameters: Mapping[Part, int], *, share: float) -> int:
    """share: of the routed experts that a token goes through. Without a head of its own the embedding is one."""
    head = parameters.get("head") or parameters.get("embedding", 0)
    always = parameters.get("layers", 0) + parameters.get("replicated", 0)
    return round(always + parameters.get("experts", 0) * share + head)
