"""Models, adapters and lists of flags on disk, made by hand and as small as the checks allow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.engine.weights import write_shapes
from tokenfleet_engine.launch.flags import Known, Option

CONFIG: Final[Mapping[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 2048,
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 2,
}
SHAPES: Final[Mapping[str, tuple[int, ...]]] = {
    "model.embed_tokens.weight": (16, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.self_attn.v_proj.weight": (4, 8),
    "model.layers.0.mlp.gate_proj.weight": (12, 8),
}
VOCABULARY: Final = {f"t{number}": number for number in range(16)}

KNOWN: Final = Known(
    version="0.32.0",
    options=(
        Option(("--max-model-len",)), Option(("--tensor-parallel-size", "-tp")), Option(("--port",)), Option(("--model",)),
        Option(("--api-server-count", "-asc")), Option(("--shutdown-timeout",)), Option(("--compilation-config", "-cc")),
        Option(("--optimization-level",)), Option(("--enable-lora", "--no-enable-lora"), 0),
        Option(("--enforce-eager", "--no-enforce-eager"), 0), Option(("--lora-modules",), "+"),
        Option(("--config",)), Option(("-h", "--help"), 0),
    ),
    architectures=frozenset({"LlamaForCausalLM", "Eagle3LlamaForCausalLM"}),
    transformers=frozenset({"Glm9Model", "MptForCausalLM"}),
    dropped={"MPTForCausalLM": "0.28.0", "MptForCausalLM": "0.28.0"},
)  # fmt: skip


def make_model(path: Path, *, shapes: Mapping[str, tuple[int, ...]] = SHAPES, **config: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write_tokenizer(path, VOCABULARY)
    write_shapes(path / "model.safetensors", shapes)
    return path


def write_tokenizer(path: Path, vocabulary: Mapping[str, int] | list[list[object]]) -> None:
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))


def make_adapter(path: Path, *, rank: int = 8, width: int = 8, out: int = 8, module: str = "q_proj", **config: Any) -> Path:
    path.mkdir(parents=True)
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": [module], "bias": "none", **config}
    (path / "adapter_config.json").write_text(json.dumps({name: value for name, value in said.items() if value is not ...}))
    stem = f"base_model.model.model.layers.0.self_attn.{module}"
    write_shapes(
        path / "adapter_model.safetensors",
        {f"{stem}.lora_A.weight": (rank, width), f"{stem}.lora_B.weight": (out, rank)},
    )
    return path
