"""What an engine takes beside weights and KV cache: activations at their peak, CUDA graphs, and buffers that are always there.

vLLM measures these as it starts (v1/worker/gpu_worker.py:determine_available_memory), so here they are estimated: the
activations from the tensors that its largest step has at the same time, the graphs and the rest from published start-up logs
(docs/memory.md). They are some hundred MB to a few GB; what they are off by is an error of the KV cache that is left.
"""

from typing import Final

from tokenfleet.planning.memory.choices import (
    ELEMENT_BYTES,
    Batch,
    compute_dtype,
    is_blackwell,
    model_length,
    on_cpu,
)
from tokenfleet.planning.memory.groups import Pool
from tokenfleet.planning.memory.stages import Stage
from tokenfleet.planning.model import Attention, ModelFacts
from tokenfleet.planning.serving import Serving

MIB: Final = 1 << 20
RUNTIME: Final = 256 * MIB
"""Handles and workspaces of CUDA's libraries and of compiled kernels, that are there when vLLM has measured."""
CPU_RUNTIME: Final = 2048 * MIB
"""Of the processes of an engine on a CPU: Python, PyTorch and vLLM, thrice."""
FLASHINFER: Final = 394 * MIB
"""vllm/envs.py:VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE, of the attention that Blackwell takes."""
GRAPH_LAYER: Final = MIB // 4
"""Of one CUDA graph, for each layer in it."""
GRAPH_POOL: Final = 64 * MIB
"""That the graphs of one kind share."""
RESERVED: Final = 400 * MIB
RESERVED_SHARE: Final = 0.0025
"""Of what a driver tells of a GPU's memory (nvidia-smi), CUDA has so much less: see docs/memory.md."""
CONTEXT: Final = 550 * MIB
"""That CUDA takes of a GPU before vLLM takes anything; it does not count as vLLM's."""
_WORKSPACE_TOKENS: Final = 64 * 1024


def cuda_memory(memory: int) -> int:
    """What CUDA calls all of a device's memory, by what its driver tells."""
    return round(memory * (1 - RESERVED_SHARE)) - RESERVED


def activation_bytes(model: ModelFacts, serving: Serving, batch: Batch, stage: Stage) -> int:
    """At the peak of the largest step, which is what vLLM profiles: a forward pass of batch.tokens, then logits and sampling
    for batch.sequences (v1/worker/gpu/model_runner.py:profile_run)."""
    size = ELEMENT_BYTES[compute_dtype(model, serving)]
    stream = batch.tokens * model.hidden_size
    widest = max(_attention_width(model, serving), _feed_forward_width(model, serving))
    forward = (2 * stream + batch.tokens * widest) * size + _latent_bytes(model, serving, batch) * size
    logits = min(batch.sequences, batch.tokens) * model.vocabulary * (1 if serving.tensor == 1 else 2)
    return max(forward, (stream + logits) * size if stage.last else 0)


def _attention_width(model: ModelFacts, serving: Serving) -> int:
    """Numbers of a token's query, keys, values and answer in one layer."""

    def width(each: Attention) -> int:
        values = each.head_dim if each.value_dim is None else each.value_dim
        heads, kv_heads = each.heads / serving.tensor, max(1, each.kv_heads / serving.tensor)
        return round(heads * (each.head_dim + values) + kv_heads * (each.head_dim + values))

    return max((width(each) for each in model.attention), default=0)


def _feed_forward_width(model: ModelFacts, serving: Serving) -> int:
    """Numbers of a token in one feed-forward part: gate and up, and their product.

    Of a mixture of experts the workspaces of fused_moe/experts/triton_moe.py:workspace_shapes, once for each of its experts.
    """
    inner = -(-model.intermediate_size // serving.tensor)
    if not model.experts:
        return 3 * inner
    return model.experts_per_token * (max(inner, model.hidden_size) + max(2 * inner, model.hidden_size)) + model.experts


def _latent_bytes(model: ModelFacts, serving: Serving, batch: Batch) -> int:
    """Numbers that MLA makes of the context of a prefill (mla_attention.py:determine_chunked_prefill_workspace_size)."""
    latent = next((each for each in model.attention if each.keeping == "latent"), None)
    if latent is None:
        return 0
    tokens = min(max(8 * model_length(model, serving), 64 * batch.sequences), _WORKSPACE_TOKENS)
    projected = latent.head_dim - latent.rotary_dim + (latent.value_dim or latent.head_dim)
    return tokens * (latent.heads // serving.tensor * projected + latent.latent_dim)


def graph_bytes(serving: Serving, batch: Batch, stage: Stage) -> int:
    """Graphs of every size that vLLM captures: those of parts of a step, and those of whole decode steps."""
    if serving.eager or on_cpu(serving.accelerator):
        return 0
    sizes = capture_sizes(batch, limit=1024 if is_blackwell(serving.accelerator) else 512)
    decode = [size for size in sizes if size <= batch.sequences]
    return (len(sizes) + len(decode)) * max(MIB, stage.layers * GRAPH_LAYER) + 2 * GRAPH_POOL


def capture_sizes(batch: Batch, *, limit: int) -> list[int]:
    """vllm/config/vllm.py:_set_cudagraph_sizes."""
    largest = min(batch.sequences * 2, limit, batch.tokens)
    sizes = [size for size in (1, 2, 4) if size <= largest]
    sizes += range(8, min(largest + 1, 256), 8)
    return sizes + list(range(256, largest + 1, 16))


def runtime_bytes(model: ModelFacts, serving: Serving, batch: Batch, stage: Stage, pool: Pool) -> int:
    if on_cpu(serving.accelerator):
        return CPU_RUNTIME
    tables = sum(
        2 * batch.sequences * -(-model_length(model, serving) // group.layers[0][0].block_size) for group in pool.groups
    )
    penalties = batch.sequences * (model.vocabulary + -(-model.vocabulary // 32)) if stage.last else 0
    flashinfer = FLASHINFER if is_blackwell(serving.accelerator) else 0
    return RUNTIME + flashinfer + 4 * (tables + penalties)
