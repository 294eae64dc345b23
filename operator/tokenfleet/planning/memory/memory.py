"""What a replica's memory is taken by: the answer of `estimate_memory`, in bytes of one device unless it says otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one replica, on its fullest device."""

    device: int
    """All of it. On a CPU: the pod's limit, or 0 where it has none."""
    usable: int
    """What vLLM may take of it."""
    weights: int
    draft: int
    """Weights of the draft model, and what its KV cache takes is in kv_bytes_per_token."""
    adapters: int
    activations: int
    """At their peak, in the largest step."""
    graphs: int
    """CUDA graphs."""
    runtime: int
    """CUDA, NCCL, PyTorch and their like, that is there whatever runs."""
    kv_cache: int
    """What is left for it; 0 where nothing is."""
    kv_bytes_per_token: float
    """That a long sequence adds to it with each token."""
    block_size: int
    kv_tokens: int
    """That the KV cache of the whole replica holds, as vLLM's start-up log counts them."""
    max_model_len: int
    max_concurrency: float
    """Sequences of that length that find room at the same time."""
    shortage: int
    """Bytes that are missing for one sequence of max_model_len; 0: the model fits."""
    fixes: tuple[str, ...] = ()
    """Where it does not fit: what to change, the least change first, each a phrase with its field: 'set
    engine.maxModelLen to 4096 or less'."""

    @property
    def fits(self) -> bool:
        return self.shortage == 0
