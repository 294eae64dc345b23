"""Rules of an LLMDeployment that need more than one part of its spec: what cannot run on some hardware, or not together.

Each says why, where vLLM 0.32 is the reason as its sources have it, or as it did when it was tried on a CPU. A simulator takes
what speaks of files and hardware, without effect, so that a spec can be drilled as it is.
"""

from collections.abc import Callable
from typing import Any

from tokenfleet.api.flags import TRANSFER
from tokenfleet.api.model import is_fetched
from tokenfleet.api.rules import Rule, matches

CPU = "cpu"
SIMULATED = "simulated"
QUANTIZATIONS_ON_CPU = ("awq", "compressed-tensors", "fp8_per_channel", "gptq", "int8_per_channel_weight_only")
KV_CACHE_TYPES_ON_CPU = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")


def _on(accelerator: str, *, cel: str, message: str, holds: Callable[[Any], bool]) -> Rule:
    """A rule for one accelerator alone."""
    return Rule(
        cel=f"self.accelerator != '{accelerator}' || {cel}",
        message=message,
        holds=lambda spec: spec.accelerator != accelerator or holds(spec),
    )


def _block_size_fits(spec: Any) -> bool:
    size = spec.engine.kv_cache.block_size
    return size is None or size % 32 == 0


HARDWARE = (
    _on(
        CPU,
        cel="(self.parallelism.tensor == 1 && self.parallelism.pipeline == 1)",
        message="parallelism needs GPUs: leave tensor and pipeline at 1 on accelerator cpu, or name a GPU class",
        holds=lambda spec: spec.parallelism.gpus == 1,
    ),
    _on(
        CPU,
        cel=f"!has(self.engine.quantization) || self.engine.quantization in {list(QUANTIZATIONS_ON_CPU)}",
        message=f"engine.quantization on accelerator cpu must be one of {', '.join(QUANTIZATIONS_ON_CPU)}: "
        "the others are for GPUs; name a GPU class, or remove it",
        holds=lambda spec: spec.engine.quantization in (None, *QUANTIZATIONS_ON_CPU),
    ),
    _on(
        CPU,
        cel=f"self.engine.kvCache.dtype in {list(KV_CACHE_TYPES_ON_CPU)}",
        message=f"engine.kvCache.dtype on accelerator cpu must be one of {', '.join(KV_CACHE_TYPES_ON_CPU)}: "
        "vLLM's attention has no others there",
        holds=lambda spec: spec.engine.kv_cache.dtype in KV_CACHE_TYPES_ON_CPU,
    ),
    _on(
        CPU,
        cel="!has(self.engine.kvCache.blockSize) || self.engine.kvCache.blockSize % 32 == 0",
        message="engine.kvCache.blockSize on accelerator cpu must be a multiple of 32: vLLM's attention takes no other",
        holds=_block_size_fits,
    ),
    _on(
        CPU,
        cel="!has(self.engine.kvCache.cpuOffload)",
        message="engine.kvCache.cpuOffload needs a GPU, from whose memory blocks go to the node's: "
        "remove it on accelerator cpu, where the KV cache is in the node's memory already",
        holds=lambda spec: spec.engine.kv_cache.cpu_offload is None,
    ),
    Rule(
        cel=f"!(self.accelerator in ['{CPU}', '{SIMULATED}']) || !self.engine.sleep",
        message=f"engine.sleep needs a GPU: vLLM sleeps on GPUs only; remove it on accelerator {CPU} or {SIMULATED}",
        holds=lambda spec: spec.accelerator not in (CPU, SIMULATED) or not spec.engine.sleep,
    ),
    _on(
        SIMULATED,
        cel="!has(self.disaggregation)",
        message="disaggregation needs real engines: remove it on accelerator simulated, which has no KV cache to hand over",
        holds=lambda spec: spec.disaggregation is None,
    ),
)
"""What does not run on every accelerator."""

TOGETHER = (
    Rule(
        cel="!has(self.engine.speculative) || self.parallelism.pipeline == 1",
        message="engine.speculative needs parallelism.pipeline 1: "
        "vLLM guesses on the last group of layers alone, and does that right for few models; raise tensor",
        holds=lambda spec: spec.engine.speculative is None or spec.parallelism.pipeline == 1,
    ),
    Rule(
        cel="!has(self.disaggregation) || self.parallelism.pipeline == 1",
        message="disaggregation needs parallelism.pipeline 1: vLLM cannot fetch a KV cache into a pipeline; raise tensor",
        holds=lambda spec: spec.disaggregation is None or spec.parallelism.pipeline == 1,
    ),
    Rule(
        cel="!has(self.disaggregation) || !has(self.engine.kvCache.cpuOffload)",
        message="disaggregation and engine.kvCache.cpuOffload exclude each other: "
        "vLLM moves KV blocks to one place alone, other pods or the node's memory; remove one of the two",
        holds=lambda spec: spec.disaggregation is None or spec.engine.kv_cache.cpu_offload is None,
    ),
    Rule(
        cel="!has(self.disaggregation) || !self.engine.sleep",
        message="disaggregation and engine.sleep exclude each other: "
        "an engine that sleeps gives away the memory that others fetch KV blocks from; remove one of the two",
        holds=lambda spec: spec.disaggregation is None or not spec.engine.sleep,
    ),
    Rule(
        cel="(!has(self.disaggregation) && !has(self.engine.kvCache.cpuOffload)) || "
        f"!self.engine.extraArgs.exists(argument, argument.replace('_', '-').matches('{TRANSFER}'))",
        message="extraArgs must not set --kv-transfer-config beside disaggregation or engine.kvCache.cpuOffload, "
        "which set it themselves",
        holds=lambda spec: (
            (spec.disaggregation is None and spec.engine.kv_cache.cpu_offload is None)
            or not any(matches(TRANSFER, flag.replace("_", "-")) for flag in spec.engine.extra_args)
        ),
    ),
    Rule(
        cel="(!has(self.model.cache) && !has(self.model.credentials)) || !self.model.source.startsWith('pvc://') || "
        "self.model.adapters.exists(one, !one.source.startsWith('pvc://')) || (has(self.engine.speculative) && "
        "has(self.engine.speculative.draftModel) && !self.engine.speculative.draftModel.startsWith('pvc://'))",
        message="model.cache and model.credentials are for what is fetched, from hf://, s3:// or gs://: "
        "remove them, since all sources are pvc://",
        holds=lambda spec: (
            (spec.model.cache is None and spec.model.credentials is None) or any(is_fetched(each) for each in spec.sources)
        ),
    ),
)
"""What does not run together, or has no effect together."""
