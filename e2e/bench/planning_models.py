"""Models that plans are made for without their files: as the config.json and the safetensors headers of each have them."""

from tokenfleet.planning.model import Attention, ModelFacts, Weights


def dense(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int = 128,
    intermediate: int,
    vocabulary: int,
    context: int = 131_072,
    dtype: str = "bfloat16",
) -> ModelFacts:
    """A decoder with grouped queries, a gated feed-forward part and a head of its own, as Llama and Mistral are."""
    projections = hidden * head_dim * 2 * (heads + kv_heads) + 3 * hidden * intermediate
    inside = layers * (projections + 2 * hidden) + hidden
    table = vocabulary * hidden
    kept = {"bfloat16": "BF16", "float16": "F16"}[dtype]
    sizes = {"embedding": table, "head": table, "layers": inside}
    return ModelFacts(
        architecture=name,
        layers=layers,
        hidden_size=hidden,
        vocabulary=vocabulary,
        dtype=dtype,
        attention=(Attention(layers=layers, keeping="full", heads=heads, kv_heads=kv_heads, head_dim=head_dim),),
        weights=tuple(
            Weights(part=part, dtype=kept, elements=count, bytes=2 * count)  # type: ignore[arg-type]
            for part, count in sizes.items()
        ),
        context_tokens=context,
        intermediate_size=intermediate,
        parameters=inside + 2 * table,
        active_parameters=inside + table,
    )


LLAMA_8B = dense("LlamaForCausalLM", layers=32, hidden=4096, heads=32, kv_heads=8, intermediate=14_336, vocabulary=128_256)
"""meta-llama/Llama-3.1-8B-Instruct: 8.03 billion parameters."""
LLAMA_70B = dense("LlamaForCausalLM", layers=80, hidden=8192, heads=64, kv_heads=8, intermediate=28_672, vocabulary=128_256)
"""meta-llama/Llama-3.3-70B-Instruct: 70.6 billion parameters."""
