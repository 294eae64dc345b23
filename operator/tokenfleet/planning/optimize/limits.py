"""What vLLM can do where: types and quantizations by the class's figures, and over how many devices a model can be split. Pure.

A class has no compute capability in its data; the precisions whose FLOPs it names tell it: FP4 came with 10.0, FP8 with 8.9 and
bfloat16 with 8.0. The lowest that a quantization needs is vLLM 0.32's own (`get_min_capability` of its quantization classes).
"""

from collections.abc import Iterator
from typing import Final

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.model import ModelFacts

_NEEDS: Final = {
    "experts_int8": 80, "fbgemm_fp8": 80, "fp_quant": 100, "modelopt": 80, "modelopt_mxfp8": 80, "mxfp4": 80,
}  # fmt: skip
"""The others run wherever a class of ours does."""
_NOT_IN_HALF: Final = ("Gemma2", "Gemma3", "Glm4For")
"""Architectures that vLLM refuses in float16 (_FLOAT16_NOT_SUPPORTED_MODELS): they overflow."""
_GROUP: Final = 128
"""Inputs that share a scale in quantized weights, as nearly all files have it: a device's share is whole groups."""


def refusal(model: ModelFacts, accelerator: Accelerator) -> str | None:
    """Why vLLM cannot run this model there at all, as a phrase; None: it can."""
    quantization = model.quantization
    if quantization is not None and _capability(accelerator) < _NEEDS.get(quantization, 0):
        return f"its files are quantized as {quantization}, which vLLM does not run there"
    if dtype(model, accelerator) is None:
        return f"it has no bfloat16, and vLLM refuses {model.architecture} in float16, where it overflows"
    return None


def dtype(model: ModelFacts, accelerator: Accelerator) -> str | None:
    """What to compute in: `auto`, or float16 where the device has no bfloat16; None: neither will do."""
    if model.dtype != "bfloat16" or _capability(accelerator) >= 80:
        return "auto"
    return None if model.architecture.startswith(_NOT_IN_HALF) else "float16"


def makes_fp8(model: ModelFacts, accelerator: Accelerator) -> bool:
    """Whether fp8 weights can be made of the files while they are loaded, and are faster there."""
    return model.quantization is None and model.dtype in ("bfloat16", "float16") and _has_fp8(accelerator)


def keeps_fp8(model: ModelFacts, accelerator: Accelerator) -> bool:
    """Whether keys and values can be kept in fp8."""
    return _has_fp8(accelerator) and any(each.keeping != "state" for each in model.attention)


def splits(model: ModelFacts, accelerator: Accelerator) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline), the fewest devices first. A replica is one pod, and so on one node.

    A pipeline of two where the layers cannot be split over as many: it has the memory, and each token waits for both halves.
    """
    most = accelerator.per_node if accelerator.resource else 1
    tensors = [count for count in range(1, most + 1) if _divides(model, count)]
    pairs = [(tensor, 1) for tensor in tensors]
    pairs += [(tensor, 2) for tensor in tensors if 2 * tensor <= most and 2 * tensor not in tensors and model.layers >= 2]
    yield from sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[1]))


def _divides(model: ModelFacts, tensor: int) -> bool:
    """As vLLM asks for it: heads and the feed-forward part in equal shares, and heads of keys in equal shares or copies."""
    for each in model.attention:
        if each.keeping == "state":
            continue
        if each.heads % tensor:
            return False
        if each.keeping != "latent" and each.kv_heads % tensor and tensor % each.kv_heads:
            return False
    if model.intermediate_size % tensor:
        return False
    grouped = model.quantization is not None and model.intermediate_size % _GROUP == 0
    return not grouped or model.intermediate_size // tensor % _GROUP == 0


def _capability(accelerator: Accelerator) -> int:
    flops = accelerator.flops
    return 100 if "fp4" in flops else 89 if "fp8" in flops else 80 if "bf16" in flops else 75


def _has_fp8(accelerator: Accelerator) -> bool:
    return "fp8" in accelerator.flops
