"""Makes a tiny model of each kind of attention that vLLM runs on a CPU, with random weights: for how much each of them keeps.

Runs where train.py runs: `python3 kinds.py --output DIR`. A few hundred KB each; nobody reads what they say. All together or
nothing: the rename comes last, and config.json of the whole is made before it.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import train  # type: ignore[import-not-found]  # it lies beside this program where that runs

SHARED: Final = {
    "vocab_size": 256 + len(train.SPECIAL), "max_position_embeddings": 4096,
    "bos_token_id": train.BEGIN, "eos_token_id": train.END, "pad_token_id": train.END,
}  # fmt: skip
KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "gqa": ("LlamaConfig", {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "tie_word_embeddings": True,
    }),
    "mha": ("OPTConfig", {
        "hidden_size": 128, "ffn_dim": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 128,
    }),
    "mqa": ("LlamaConfig", {
        "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 5, "num_attention_heads": 4,
        "num_key_value_heads": 1, "tie_word_embeddings": False,
    }),
    "moe": ("Qwen3MoeConfig", {
        "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "num_experts": 4, "num_experts_per_tok": 2,
        "decoder_sparse_step": 1, "mlp_only_layers": [],
    }),
    "sliding": ("MistralConfig", {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 256,
    }),
    "interleaved": ("Gemma3TextConfig", {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 64, "sliding_window": 512, "query_pre_attn_scalar": 64,
    }),
    "latent": ("DeepseekV2Config", {
        "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 512, "q_lora_rank": None,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 4, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "topk_method": "greedy",
        "tie_word_embeddings": False,
    }),
}  # fmt: skip
"""By name, the configuration of transformers, and what of it is not as usual."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, help="not read: nothing is learned")
    parser.add_argument("--output", type=Path, required=True, help="directory to make, or to leave as it is")
    parser.add_argument("--link", type=Path, help="a name that shall mean it from now on")
    arguments = parser.parse_args()
    if (arguments.output / "config.json").is_file():
        print(f"{arguments.output} is there", flush=True)
    else:
        make(arguments.output)
    if arguments.link is not None:
        train.link(arguments.link, arguments.output)
    return 0


def make(output: Path) -> None:
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, (kind, fields) in KINDS.items():
        train.save(random_model(kind, fields), scratch / name)
    shutil.copy(scratch / "gqa" / "config.json", scratch)
    for path in [scratch, *scratch.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    scratch.rename(output)


def random_model(kind: str, fields: dict[str, Any]) -> Any:
    import torch
    import transformers

    torch.manual_seed(train.SEED)
    config = getattr(transformers, kind)(**SHARED, **fields)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


if __name__ == "__main__":
    sys.exit(main())
