"""Sorts a model's tensors by the part that they belong to, and counts what they hold.

By their names alone, as the safetensors on the disk have them. Left out is what vLLM does not load: layers that predict further
tokens (MTP), and a head that is the embedding (vllm/model_executor/models/utils.py, and `skip_prefixes` of the models).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet.planning.model import ELEMENT_BITS, Part, Weights
from tokenfleet.planning.models import fields
from tokenfleet.planning.models.fields import Config, UnknownModel, optional

_TOWERS: Final = re.compile(
    r"(^|\.)(visual|vision_\w+|vision|audio_\w+|image_\w+|multi_modal_projector|mm_\w+|connector|aligner|mlp1|vpm|resampler|"
    r"embed_vision|embed_audio|code2wav|talker|token2wav)\."
)
"""Of other kinds of input, which no layer of the language model holds."""
_HEAD: Final = re.compile(r"(^|\.)(lm_head|embed_out)\.|^output\.")
_EMBEDDING: Final = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|embeddings)\.")
_SHARED: Final = re.compile(r"shared_expert")
_EXPERTS: Final = re.compile(r"\.experts\.")
_LAYER: Final = re.compile(r"(^|\.)(layers|h|blocks|decoder_layers)\.\*\.")
_PREDICTION: Final = re.compile(
    r"(^|\.)mtp(_layers|\.|$)|\.layers\.\*\.(eh_proj|enorm|hnorm|shared_head|embed_tokens|transformer)\."
)
"""Of layers that predict further tokens (num_nextn_predict_layers), which vLLM does not load with the model."""
_REPLICATED: Final = re.compile(
    r"(norm\w*|ln_\w+|layernorm\w*|\.gate|router|shared_expert_gate|q_a_proj|kv_a_proj_with_mqa|e_score_correction_bias)"
    r"(\.weight|\.bias|\.weight_scale\w*|\.e_score_correction_bias)?$"
)
"""What no device of a tensor-parallel group has only a part of: ReplicatedLinear and norms in the models of vLLM."""
_SCALE: Final = re.compile(r"(scale|scales|scale_inv|scale_2|zeros|zero_point|g_idx|absmax|quant_map|weight_shape)$")
"""What belongs to a quantization, and is no parameter of the model."""
_PACKED: Final = re.compile(r"(qweight|weight_packed|_blocks)$")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of an inspection's document: alike in `count` places."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    count: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape) * self.count

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * ELEMENT_BITS[self.dtype] // 8 * self.count


def read_tensors(document: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Raises UnknownModel where the document has none, or one of a type that safetensors does not know."""
    try:
        tensors = tuple(
            Tensor(
                name=str(each["name"]), dtype=str(each["dtype"]), shape=tuple(map(int, each["shape"])), count=int(each["count"])
            )
            for each in document["tensors"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownModel("The document of the model's tensors is incomplete; inspect the model anew.") from error
    if not tensors:
        raise UnknownModel("The model has no tensors: its safetensors are empty.")
    if strange := sorted({each.dtype for each in tensors} - ELEMENT_BITS.keys()):
        raise UnknownModel(f"The model has tensors of the type {strange[0]}, whose size is not known.")
    return tensors


def loaded(tensors: Iterable[Tensor], text: Config, *, tied: bool) -> Iterator[Tensor]:
    """Those that vLLM keeps in memory."""
    ahead = optional(text, ("num_nextn_predict_layers",)) or 0
    for tensor in tensors:
        if (tied and part_of(tensor.name) == "head") or _PREDICTION.search(tensor.name):
            continue
        left = tensor.count - _ahead(tensor, text, ahead) if ahead else tensor.count
        if left:
            yield Tensor(tensor.name, tensor.dtype, tensor.shape, left)


def _ahead(tensor: Tensor, text: Config, ahead: int) -> int:
    """How many of the places are in layers behind the model's last one, by how many layers have such a tensor."""
    part = part_of(tensor.name)
    each = (optional(text, fields.EXPERTS) or 1) if ".experts.*." in tensor.name else 1
    layers = optional(text, fields.LAYERS) or 0
    dense = optional(text, ("first_k_dense_replace",)) or 0
    held = tensor.count // each
    in_layers = part in {"layers", "replicated", "experts"}
    return ahead * each if in_layers and held in {layers + ahead, layers - dense + ahead} else 0


def part_of(name: str) -> Part:
    """By a tensor's name, in which each number of a layer or an expert may be `*`."""
    if _TOWERS.search(name):
        return "other"
    if _HEAD.search(name):
        return "head"
    if _LAYER.search(name):
        if _EXPERTS.search(name) and not _SHARED.search(name):
            return "experts"
        return "replicated" if _REPLICATED.search(name) else "layers"
    return "embedding" if _EMBEDDING.search(name) else "other"


def weights_of(tensors: Iterable[Tensor]) -> tuple[Weights, ...]:
    sums: dict[tuple[Part, str], tuple[int, int]] = {}
    for tensor in tensors:
        key = (part_of(tensor.name), tensor.dtype)
        elements, size = sums.get(key, (0, 0))
        sums[key] = (elements + tensor.elements, size + tensor.bytes)
    return tuple(
        Weights(part=part, dtype=dtype, elements=elements, bytes=size)
        for (part, dtype), (elements, size) in sorted(sums.items())
    )


def parameters_of(tensors: Iterable[Tensor], *, bits: int) -> dict[Part, int]:
    """Numbers of the model itself, by part. bits: of one that is packed with others into a whole number."""
    sums: dict[Part, int] = {}
    for tensor in tensors:
        last = tensor.name.rpartition(".")[2]
        if _SCALE.search(last):
            continue
        packed = bool(_PACKED.search(last)) or (tensor.dtype in {"U8", "I8"} and bits < 8 and last == "weight")
        each = max(1, ELEMENT_BITS[tensor.dtype] // bits) if packed else 1
        part = part_of(tensor.name)
        sums[part] = sums.get(part, 0) + tensor.elements * each
    return sums
