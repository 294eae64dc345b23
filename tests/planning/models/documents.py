"""Documents of well-known models, as an inspection gives them: config.json as published, and the tensors that its sizes make.

The tensors follow each architecture's published safetensors, so that parameters and bytes can be held against the model cards.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
Entry = tuple[str, tuple[int, ...], int]
"""Name, shape, and in how many places."""

CONFIGS: Final[dict[str, Json]] = json.loads((Path(__file__).parent / "configs.json").read_text())


def document(name: str, *, stored: str | None = None, **changed: Any) -> Json:
    """stored: the type of its weights, as safetensors calls it; what its config.json says where left out."""
    config = CONFIGS[name] | changed
    inner = config.get("text_config", config)
    kept = stored or {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[config.get("torch_dtype", "float32")]
    tensors = [_entry(entry, kept) for entry in _entries(inner)]
    return {"source": f"hf://known/{name}", "revision": None, "config": config, "tensors": tensors, "bytes": 0, "files": 1}


def plain(config: Json, entries: Sequence[Entry], *, dtype: str = "BF16") -> Json:
    """Of a configuration and tensors of one's own."""
    return {"source": "x", "revision": None, "config": config, "tensors": [_entry(entry, dtype) for entry in entries]}


def _entry(entry: Entry, dtype: str) -> Json:
    name, shape, count = entry
    if name.endswith(("_blocks", "_scales")):
        dtype = "U8"
    elif name.endswith("weight_scale_inv"):
        dtype = "F32"
    elif dtype == "F8_E4M3" and (len(shape) < 2 or name.endswith(("embed_tokens.weight", "lm_head.weight", "mlp.gate.weight"))):
        dtype = "BF16"
    return {"name": name, "dtype": dtype, "shape": list(shape), "count": count}


def _entries(config: Json) -> Iterator[Entry]:
    width, layers, table = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    yield "model.embed_tokens.weight", (table, width), 1
    if not config.get("tie_word_embeddings", config["model_type"].startswith("gemma")):
        yield "lm_head.weight", (table, width), 1
    yield "model.norm.weight", (width,), 1
    norms = 4 if config["model_type"].startswith("gemma") else 2
    for index in range(norms):
        yield f"model.layers.*.norm_{index}_layernorm.weight", (width,), layers + config.get("num_nextn_predict_layers", 0)
    yield from (_latent(config) if "kv_lora_rank" in config else _attention(config))
    yield from _feed_forward(config)


def _attention(config: Json) -> Iterator[Entry]:
    width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head = config.get("head_dim", width // heads)
    query, keys = heads * head, config["num_key_value_heads"] * head
    prefix = "model.layers.*.self_attn"
    yield f"{prefix}.q_proj.weight", (query, width), layers
    for side in ("k", "v"):
        yield f"{prefix}.{side}_proj.weight", (keys, width), layers
    yield f"{prefix}.o_proj.weight", (width, query), layers
    if config["model_type"] in {"qwen2", "gpt_oss"}:
        yield f"{prefix}.q_proj.bias", (query,), layers
        yield f"{prefix}.k_proj.bias", (keys,), 2 * layers
    if config["model_type"] == "gpt_oss":
        yield f"{prefix}.o_proj.bias", (width,), layers
        yield f"{prefix}.sinks", (heads,), layers
    if config["model_type"] in {"qwen3", "qwen3_moe", "gemma3_text"}:
        yield f"{prefix}.q_norm.weight", (head,), layers
        yield f"{prefix}.k_norm.weight", (head,), layers


def _latent(config: Json) -> Iterator[Entry]:
    """DeepSeek's, whose layer for the token after the next is one more."""
    width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"] + 1
    queries, rank, rotary = config["q_lora_rank"], config["kv_lora_rank"], config["qk_rope_head_dim"]
    key, value, prefix = config["qk_nope_head_dim"], config["v_head_dim"], "model.layers.*.self_attn"
    for name, shape in (
        ("q_a_proj", (queries, width)), ("q_b_proj", (heads * (key + rotary), queries)),
        ("kv_a_proj_with_mqa", (rank + rotary, width)), ("kv_b_proj", (heads * (key + value), rank)),
        ("o_proj", (width, heads * value)),
    ):  # fmt: skip
        yield from _blockwise(f"{prefix}.{name}", shape, layers)
    yield f"{prefix}.q_a_layernorm.weight", (queries,), layers
    yield f"{prefix}.kv_a_layernorm.weight", (rank,), layers
    yield "model.layers.*.eh_proj.weight", (width, 2 * width), 1
    yield "model.layers.*.enorm.weight", (width,), 1
    yield "model.layers.*.hnorm.weight", (width,), 1
    yield "model.layers.*.embed_tokens.weight", (config["vocab_size"], width), 1
    yield "model.layers.*.shared_head.head.weight", (config["vocab_size"], width), 1
    yield "model.layers.*.shared_head.norm.weight", (width,), 1


def _blockwise(name: str, shape: tuple[int, int], count: int) -> Iterator[Entry]:
    """A weight with a scale for each 128 × 128 of its numbers."""
    yield f"{name}.weight", shape, count
    yield f"{name}.weight_scale_inv", (-(-shape[0] // 128), -(-shape[1] // 128)), count


def _feed_forward(config: Json) -> Iterator[Entry]:
    kind, width, layers = config["model_type"], config["hidden_size"], config["num_hidden_layers"]
    inner, prefix = config["intermediate_size"], "model.layers.*.mlp"
    if kind == "mixtral":
        experts, prefix = config["num_local_experts"], "model.layers.*.block_sparse_moe"
        yield f"{prefix}.gate.weight", (experts, width), layers
        yield from _gated(f"{prefix}.experts.*", width, inner, layers * experts, names=("w1", "w3", "w2"))
    elif kind == "qwen3_moe":
        experts = config["num_experts"]
        yield f"{prefix}.gate.weight", (experts, width), layers
        yield from _gated(f"{prefix}.experts.*", width, config["moe_intermediate_size"], layers * experts)
    elif kind == "gpt_oss":
        experts = config["num_local_experts"]
        yield f"{prefix}.router.weight", (experts, width), layers
        yield f"{prefix}.router.bias", (experts,), layers
        for name, rows in (("gate_up_proj", 2 * inner), ("down_proj", width)):
            yield f"{prefix}.experts.{name}_blocks", (experts, rows, width // 32, 16), layers
            yield f"{prefix}.experts.{name}_scales", (experts, rows, width // 32), layers
            yield f"{prefix}.experts.{name}_bias", (experts, rows), layers
    elif kind == "deepseek_v3":
        dense, routed = config["first_k_dense_replace"], layers - config["first_k_dense_replace"] + 1
        experts, small = config["n_routed_experts"], config["moe_intermediate_size"]
        for name, shape in _gated_shapes(width, inner):
            yield from _blockwise(f"{prefix}.{name}", shape, dense)
        for name, shape in _gated_shapes(width, small):
            yield from _blockwise(f"{prefix}.experts.*.{name}", shape, routed * experts)
            yield from _blockwise(f"{prefix}.shared_experts.{name}", shape, routed)
        yield f"{prefix}.gate.weight", (experts, width), routed
        yield f"{prefix}.gate.e_score_correction_bias", (experts,), routed
    else:
        yield from _gated(prefix, width, inner, layers)


def _gated(
    prefix: str, width: int, inner: int, count: int, *, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
) -> Iterator[Entry]:
    for name, (_, shape) in zip(names, _gated_shapes(width, inner), strict=True):
        yield f"{prefix}.{name}.weight", shape, count


def _gated_shapes(width: int, inner: int) -> tuple[tuple[str, tuple[int, int]], ...]:
    return ("gate_proj", (inner, width)), ("up_proj", (inner, width)), ("down_proj", (width, inner))
