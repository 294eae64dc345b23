"""What a step of a model computes and reads on one device: sums over its layers, made once for a model and how it is run.

Counted per token, per sampled token, per token of context and per step, so that the time of any step is a few products
(`pace`). Formulas: Pope et al. 2022, Efficiently Scaling Transformer Inference, section 2 (2 FLOPs for a parameter and token,
weights read once a step, KV cache read once a token); Kipply 2022, Transformer Inference Arithmetic.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet.planning.accelerators import Precision
from tokenfleet.planning.memory.choices import ELEMENT_BYTES, compute_dtype, kv_dtype
from tokenfleet.planning.memory.weights import loaded_bytes
from tokenfleet.planning.model import Attention, ModelFacts, Part
from tokenfleet.planning.serving import Serving

_PRECISION: Final[dict[str, Precision]] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class Keeping:
    """Layers that keep alike, on one device; bytes and FLOPs are those of all of them."""

    bytes_per_token: float
    flops_per_pair: float
    """Of a prompt: a token and one that it looks at."""
    flops_per_context: float
    """Of a decode step: a sequence and one token of its context."""
    window: int | None
    state_bytes: float

    def seen(self, context: float) -> float:
        """Tokens that the next one looks at."""
        return context if self.window is None else min(context, float(self.window))

    def pairs(self, new: float, cached: float) -> float:
        """That `new` tokens behind `cached` ones make, each with itself and with what it sees before it."""
        if self.window is None:
            return new * cached + new * new / 2
        window = float(self.window)
        growing = min(max(window - cached, 0.0), new)
        return growing * cached + growing * growing / 2 + (new - growing) * window


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of one device of a replica; with a pipeline, of the devices that one token goes through, one after another."""

    token_flops: float
    """Of the matrices, without attention, head and routed experts."""
    routed_flops: float
    """Of the experts that a token is routed to."""
    sampled_flops: float
    """Of the head, for a token whose successor is drawn."""
    step_bytes: float
    """Of weights, that every step reads."""
    expert_bytes: float
    """Of all routed experts."""
    expert_share: float
    """Of them, that one token is routed to."""
    keepings: tuple[Keeping, ...]
    wire_bytes: float
    """That a token's activations send to other devices."""
    wire_messages: float
    """Of a step, one after another."""
    precision: Precision

    def context_bytes(self, context: float) -> float:
        """That a decode step reads of one sequence's KV cache."""
        return sum(each.seen(context) * each.bytes_per_token + 2 * each.state_bytes for each in self.keepings)

    def context_flops(self, context: float) -> float:
        return sum(each.seen(context) * each.flops_per_context for each in self.keepings)

    def prompt_flops(self, new: float, cached: float) -> float:
        """Of a whole prompt's attention."""
        return sum(each.pairs(new, cached) * each.flops_per_pair for each in self.keepings)


def shape_of(model: ModelFacts, serving: Serving) -> Shape:
    tensor = serving.tensor
    head = model.hidden_size * model.vocabulary
    tied = not any(each.part == "head" for each in model.weights)
    size: dict[Part, float] = {}
    for each in model.weights:
        size[each.part] = size.get(each.part, 0.0) + loaded_bytes(each, model, serving)
    # Of an embedding a step looks up a row for each token, but where it is the head as well.
    split = size.get("layers", 0.0) + size.get("embedding" if tied else "head", 0.0)
    share = model.experts_per_token / model.experts if model.experts else 0.0
    routed = share * _routed_parameters(model, tied=tied) if share else 0.0
    reduces = 2 * model.layers if tensor > 1 else 0
    element = ELEMENT_BYTES.get(compute_dtype(model, serving), 2)
    return Shape(
        token_flops=2 * max(model.active_parameters - head - routed, 0) / tensor,
        routed_flops=2 * routed / tensor,
        sampled_flops=2 * head / tensor,
        step_bytes=split / tensor + size.get("replicated", 0.0),
        expert_bytes=size.get("experts", 0.0) / tensor,
        expert_share=share,
        keepings=tuple(_keeping(each, model, serving) for each in model.attention),
        wire_bytes=model.hidden_size * element * (reduces * 2 * (tensor - 1) / tensor + serving.pipeline - 1),
        wire_messages=reduces + serving.pipeline - 1,
        precision=compute_precision(model, serving),
    )


def _routed_parameters(model: ModelFacts, *, tied: bool) -> float:
    """Of all experts: what a token does not go through is the rest of them, since files may have several in an element."""
    looked_up = 0 if tied else model.hidden_size * model.vocabulary
    other = sum(each.elements for each in model.weights if each.part == "other")
    passed_over = model.parameters - looked_up - other - model.active_parameters
    return (
        max(passed_over, 0) / (1 - model.experts_per_token / model.experts) if model.experts > model.experts_per_token else 0.0
    )


def _keeping(attention: Attention, model: ModelFacts, serving: Serving) -> Keeping:
    """MLA computes a prompt with the heads' own keys, and a decode step with the latent ones (DeepSeek-V2, section 2.1)."""
    layers, tensor = attention.layers, serving.tensor
    value = attention.head_dim if attention.value_dim is None else attention.value_dim
    element = kv_element_bytes(model, serving)
    pair = 2 * layers * attention.heads * (attention.head_dim + value) / tensor
    if attention.keeping == "state":
        return Keeping(0.0, 0.0, 0.0, None, layers * attention.state_bytes / tensor)
    if attention.keeping == "latent":
        latent = 4 * layers * attention.heads * attention.latent_dim / tensor
        return Keeping(layers * attention.latent_dim * element, pair, latent, None, 0.0)
    heads = max(attention.kv_heads / tensor, 1.0)
    return Keeping(layers * heads * (attention.head_dim + value) * element, pair, pair, attention.window, 0.0)


def kv_element_bytes(model: ModelFacts, serving: Serving) -> int:
    kept = kv_dtype(model, serving)
    return 1 if kept.startswith(("fp8", "int8")) else ELEMENT_BYTES.get(kept, 2)


def compute_precision(model: ModelFacts, serving: Serving) -> Precision:
    """In which the matrices are multiplied: that of the weights where activations take it and the device has it, else
    that of the activations (4-bit weights, and 8-bit ones on a device without, are widened first)."""
    flops = serving.accelerator.flops
    wanted: Precision | None = None
    quantization = serving.quantization or model.quantization
    large = max(
        (each for each in model.weights if each.part in ("layers", "experts")), key=lambda each: each.bytes, default=None
    )
    if quantization == "fp8" or (large is not None and large.dtype.startswith("F8_")):
        wanted = "fp8"
    elif large is not None and large.dtype == "I8":
        wanted = "int8"
    elif quantization in ("modelopt_fp4", "nvfp4"):
        wanted = "fp4"
    if wanted is not None and wanted in flops:
        return wanted
    return _PRECISION.get(compute_dtype(model, serving), "fp16")
