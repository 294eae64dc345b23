"""What a model is, in the numbers that memory and speed depend on. Data alone: `model_facts` makes it of a model's files.

As JSON it is kept in an LLMDeployment's status.model.facts, so fields may be added (with a default) and none renamed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Json = dict[str, Any]

Part = Literal["embedding", "head", "experts", "layers", "replicated", "other"]
"""Of a model's weights. layers: all of its layers but routed experts and replicated. replicated: what each device of a group
that shares a layer holds as a whole: norms, routers, MLA's projections to its latent vector. other: what is in none of these: a
vision tower."""
Keeping = Literal["full", "sliding", "chunked", "latent", "state"]
"""What a layer keeps of a sequence: keys and values of every token, of a window's tokens, of the chunk that it is in, a
compressed vector of every token (MLA), or a state of one size however long the sequence is (Mamba, linear attention)."""

ELEMENT_BITS: Final[Mapping[str, int]] = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits of one element, by safetensors' names of types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Layers that keep alike."""

    layers: int
    keeping: Keeping
    heads: int
    """That ask."""
    kv_heads: int
    head_dim: int
    """Numbers of one key."""
    value_dim: int | None = None
    """Numbers of one value; None: as many as of a key."""
    window: int | None = None
    """sliding, chunked: tokens of it."""
    latent_dim: int = 0
    """latent: numbers that are kept of one token."""
    rotary_dim: int = 0
    """latent: of them, and of a key, those that say where the token stands."""
    state_bytes: int = 0
    """state: of one sequence and layer."""
    state_bytes_float32: int = 0
    """state: likewise, where the recurrence is kept in float32, as it is on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors of one part that have one type."""

    part: Part
    dtype: str
    """As safetensors calls it: BF16, F8_E4M3, U8, …"""
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model."""

    architecture: str
    layers: int
    hidden_size: int
    vocabulary: int
    dtype: str
    """What its config.json says that it computes in: bfloat16, float16 or float32."""
    attention: tuple[Attention, ...]
    weights: tuple[Weights, ...]
    context_tokens: int | None = None
    """The longest sequence that it was made for."""
    served_tokens: int | None = None
    """That of vLLM where nobody sets one; with LongRoPE it is shorter."""
    intermediate_size: int = 0
    """Of the feed-forward part of a dense layer, or of one expert."""
    experts: int = 0
    """Routed, in one layer; 0: the model is dense."""
    experts_per_token: int = 0
    quantization: str | None = None
    """How its files are quantized, as vLLM calls it; None: they are not."""
    kv_dtype: str | None = None
    """That its files want for the KV cache; None: they want none."""
    parameters: int = 0
    """All of them, however they are packed."""
    active_parameters: int = 0
    """That one token goes through: of the experts those that it is routed to, and no embedding that is looked up."""

    @property
    def weight_bytes(self) -> int:
        return sum(each.bytes for each in self.weights)

    def as_json(self) -> Json:
        body = asdict(self)
        return body | {
            "attention": [asdict(each) for each in self.attention],
            "weights": [asdict(each) for each in self.weights],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "ModelFacts":
        """Raises KeyError or TypeError where it is none."""
        known = {name: value for name, value in body.items() if name in cls.__slots__}
        return cls(
            **known
            | {
                "attention": tuple(Attention(**each) for each in body["attention"]),
                "weights": tuple(Weights(**each) for each in body["weights"]),
            }
        )
