"""What a model's weights take on one device: as the files have them, cast, quantized while they are loaded, and split.

Split as the layers of vLLM 0.32 split them (model_executor/layers: linear.py, vocab_parallel_embedding.py, fused_moe): each
linear layer over the devices that share it, with whole key and value heads; embedding and head by rows, of which there are a
multiple of 64; norms, routers and MLA's projections to its latent vector on every device.
"""

from types import MappingProxyType
from typing import Final

from tokenfleet.planning.memory.choices import ELEMENT_BYTES, compute_dtype
from tokenfleet.planning.memory.stages import Stage
from tokenfleet.planning.model import ModelFacts, Part, Weights
from tokenfleet.planning.serving import Serving

VOCABULARY_STEP: Final = 64
"""vocab_parallel_embedding.py:DEFAULT_VOCAB_PADDING_SIZE."""
LOADED_BITS: Final = MappingProxyType(
    {
        "fp8": 8.0, "fp8_per_block": 8 + 32 / (128 * 128), "fp8_per_channel": 8.0, "mxfp8": 8 + 8 / 32,
        "nvfp4_per_token": 4 + 8 / 16, "int8_per_channel_weight_only": 8.0, "mxfp4": 4 + 8 / 32,
    }
)  # fmt: skip
"""Of a weight that is quantized while it is loaded, with its share of a scale (model_executor/layers/quantization/online)."""
_EXPERTS_ALONE: Final = frozenset({"nvfp4_per_token", "int8_per_channel_weight_only"})
"""online/base.py:_ONLINE_LINEAR_METHODS has no method of these for other layers."""
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


def stage_bytes(model: ModelFacts, serving: Serving, stage: Stage) -> int:
    """Of one device of the stage."""
    padded = -(-model.vocabulary // VOCABULARY_STEP) * VOCABULARY_STEP / model.vocabulary
    tied = not any(each.part == "head" for each in model.weights)
    held = stage.layers / model.layers
    shares: dict[Part, float] = {
        "embedding": padded / serving.tensor * (stage.first or (tied and stage.last)),
        "head": padded / serving.tensor * stage.last,
        "experts": held / serving.tensor,
        "layers": held / serving.tensor,
        "replicated": held,
        "other": stage.first / serving.tensor,
    }
    split = sum(loaded_bytes(each, model, serving) * shares[each.part] for each in model.weights)
    return round(split + _repeated_heads(model, serving) * held)


def loaded_bytes(each: Weights, model: ModelFacts, serving: Serving) -> float:
    """Of all of them, once they are loaded."""
    if (bits := _online_bits(each, model, serving)) is not None:
        return each.elements * bits / 8
    floating = each.dtype in _FLOATS
    if floating and not (model.quantization and each.dtype == "F32"):  # a quantization's scales stay as they are
        return each.elements * ELEMENT_BYTES[compute_dtype(model, serving)]
    return each.bytes


def _online_bits(each: Weights, model: ModelFacts, serving: Serving) -> float | None:
    """None: the weights stay as they are. Files that are quantized already are not quantized again."""
    if serving.quantization is None or model.quantization is not None or each.dtype not in _FLOATS:
        return None
    parts = {"experts"} if serving.quantization in _EXPERTS_ALONE else {"experts", "layers"}
    return LOADED_BITS.get(serving.quantization) if each.part in parts else None


def _repeated_heads(model: ModelFacts, serving: Serving) -> float:
    """Bytes more of a device's key and value projections, of all layers, where there are more devices than such heads.

    linear.py:QKVParallelLinear keeps at least one of them on each device.
    """
    plain = [each for each in model.weights if each.part == "layers"]
    elements = sum(each.elements for each in plain)
    if not elements:
        return 0.0
    size = sum(loaded_bytes(each, model, serving) for each in plain) / elements
    more = 0.0
    for each in model.attention:
        if 0 < each.kv_heads < serving.tensor and each.keeping not in {"latent", "state"}:
            sides = each.head_dim + (each.head_dim if each.value_dim is None else each.value_dim)
            more += each.layers * model.hidden_size * sides * (1 - each.kv_heads / serving.tensor)
    return more * size


def adapter_bytes(model: ModelFacts, serving: Serving) -> int:
    """Places for LoRA adapters on one device (vllm/lora/layers): two narrow matrices beside each linear layer.

    Of a mixture of experts the experts' are not counted, whose adapters vLLM does not load for every model.
    """
    if not serving.adapters:
        return 0
    narrow = 0.0
    for each in model.attention:
        if each.keeping == "state":
            continue
        query, keys = each.heads * each.head_dim, each.kv_heads * each.head_dim
        wide = [(model.hidden_size, query), (model.hidden_size, keys), (model.hidden_size, keys), (query, model.hidden_size)]
        if not model.experts:
            wide += 2 * [(model.hidden_size, model.intermediate_size)] + [(model.intermediate_size, model.hidden_size)]
        narrow += each.layers * sum(into + out / serving.tensor for into, out in wide)
    share = 1 / serving.pipeline
    return round(narrow * share * serving.adapter_rank * serving.adapters * ELEMENT_BYTES[compute_dtype(model, serving)])
