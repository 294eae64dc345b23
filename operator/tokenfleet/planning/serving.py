"""How a model is run: the accelerator, over how many of them, and the settings of vLLM that memory and speed depend on. Pure.

One form for the spec of an LLMDeployment, for a command line and for each candidate of a search. What is None is vLLM's to
choose; `memory` and `speed` know what it chooses.
"""

from dataclasses import dataclass

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.model import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One replica."""

    accelerator: Accelerator
    tensor: int = 1
    """Devices that share each layer."""
    pipeline: int = 1
    """Groups of layers, each on devices of its own."""
    dtype: str = "auto"
    quantization: str | None = None
    """While it is loaded; None: as the files are."""
    kv_dtype: str = "auto"
    utilization: float = 0.9
    """Share of a device's memory that vLLM may take."""
    max_model_len: int | None = None
    fit_length: bool = False
    """A sequence may be as long as finds room (--max-model-len auto), up to max_model_len or the model's own limit."""
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    chunked_prefill: bool = True
    prefix_caching: bool = True
    block_size: int | None = None
    eager: bool = False
    """Without CUDA graphs."""
    kv_cache_bytes: int | None = None
    """--kv-cache-memory-bytes, of each device; None: what is left."""
    memory_limit: int | None = None
    """Of the pod, in bytes, which is what there is on a CPU; None: none."""
    draft: ModelFacts | None = None
    draft_tokens: int = 0
    adapters: int = 0
    """LoRA adapters that are loaded."""
    adapter_rank: int = 16

    @property
    def devices(self) -> int:
        """Of one replica."""
        return self.tensor * self.pipeline
