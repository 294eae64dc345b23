"""What vLLM 0.32 chooses where nobody says: how many tokens and sequences a step has, the type it computes in, the block size.

Each function names the place in vLLM's sources that it follows. Nothing here counts a byte.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

GIB: Final = 1 << 30
NO_LENGTH: Final = 2048
"""vllm/config/model.py:_get_and_verify_max_len, of a model that does not say how long its sequences may be."""
ELEMENT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_NO_HALF: Final = ("Gemma2", "Gemma3", "Glm4ForCausalLM")
"""Architectures that vLLM does not run in float16 (config/model.py:_FLOAT16_NOT_SUPPORTED_MODELS)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Of one step, at most."""

    sequences: int
    tokens: int


def on_cpu(accelerator: Accelerator) -> bool:
    return accelerator.resource is None


def is_blackwell(accelerator: Accelerator) -> bool:
    """Compute capability 10, by what came with it."""
    return "fp4" in accelerator.flops


def is_hopper(accelerator: Accelerator) -> bool:
    """Compute capability 9: it has FP8, and NVLink or the memory of a data centre's card."""
    fast = (accelerator.bandwidth or 0) >= 2e12
    return "fp8" in accelerator.flops and fast and not is_blackwell(accelerator)


def model_length(model: ModelFacts, serving: Serving) -> int:
    """vllm/config/model.py:_get_and_verify_max_len."""
    return serving.max_model_len or model.served_tokens or model.context_tokens or NO_LENGTH


def batch_of(model: ModelFacts, serving: Serving) -> Batch:
    """vllm/engine/arg_utils.py:get_batch_defaults and _set_default_max_num_seqs_and_batched_tokens_args, for a server."""
    tokens, sequences = _batch_defaults(serving)
    sequences = serving.max_num_seqs or sequences
    if serving.max_num_batched_tokens is not None:
        tokens = serving.max_num_batched_tokens
    else:
        length = model_length(model, serving)
        tokens = tokens if serving.chunked_prefill else max(length, tokens)
        tokens = min(sequences * length, tokens)
    return Batch(sequences=serving.max_num_seqs or min(sequences, tokens), tokens=tokens)


def _batch_defaults(serving: Serving) -> tuple[int, int]:
    """Tokens and sequences, by the device's memory; A100s are left out of the larger ones by their name."""
    accelerator = serving.accelerator
    if on_cpu(accelerator):
        return 2048 * serving.devices, 128 * serving.devices
    memory = accelerator.memory or 0
    if memory >= 160 * GIB:
        return 16384, 1024
    if memory >= 70 * GIB and not any("A100" in product for product in accelerator.products):
        return 8192, 1024
    return 2048, 256


def tokens_in_flight(serving: Serving, batch: Batch) -> int:
    """vllm/config/vllm.py:max_in_flight_tokens. On a CPU steps do not overlap; on a GPU one more is prepared than runs."""
    steps = serving.pipeline if on_cpu(serving.accelerator) else serving.pipeline + 1
    return steps * batch.tokens


def compute_dtype(model: ModelFacts, serving: Serving) -> str:
    """vllm/config/model.py:_resolve_auto_dtype: float32 becomes bfloat16, or float16 where the device has no bfloat16."""
    if serving.dtype != "auto":
        return serving.dtype
    has_bfloat16 = on_cpu(serving.accelerator) or not serving.accelerator.flops or "bf16" in serving.accelerator.flops
    preferred = "bfloat16" if has_bfloat16 else "float16"
    refused = model.dtype == "float16" and model.architecture.startswith(_NO_HALF)
    if model.dtype == "float32" or refused or (model.dtype == "bfloat16" and not has_bfloat16):
        return preferred
    return model.dtype


def kv_dtype(model: ModelFacts, serving: Serving) -> str:
    """vllm/utils/torch_utils.py:resolve_kv_cache_dtype_string."""
    if serving.kv_dtype != "auto":
        return serving.kv_dtype
    return model.kv_dtype or compute_dtype(model, serving)


def block_size(model: ModelFacts, serving: Serving) -> int:
    """Tokens of one block, before what recurrent layers need.

    vllm/platforms/cpu.py:check_and_update_config on a CPU, and on a GPU platforms/interface.py:update_block_size_for_backend,
    with the backends that platforms/cuda.py:_get_backend_priorities puts first.
    """
    latent = any(each.keeping == "latent" for each in model.attention)
    if on_cpu(serving.accelerator):
        return 16 if latent else serving.block_size or 128
    if serving.block_size is not None:
        return serving.block_size
    if latent and is_blackwell(serving.accelerator):
        return 32
    if latent and is_hopper(serving.accelerator) and kv_dtype(model, serving).startswith("fp8"):
        return 64
    return 16
