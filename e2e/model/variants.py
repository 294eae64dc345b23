"""Makes what goes with the small model: a draft for speculation, LoRA adapters, and copies that each have one thing wrong.

Runs where train.py runs, after it: `python3 variants.py --corpus corpus.txt --output DIR`. The model itself is found beside
the output, by its name. All together or nothing: the rename comes last, and config.json of the whole is made before it.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import train  # type: ignore[import-not-found]  # it lies beside this program where that runs

MODEL: Final = "tokenfleet-demo"
ADAPTERS: Final = {"loud": 1, "shy": 2}
"""By name, their seeds."""
RANK: Final = 8
DRAFT: Final = train.Plan(layers=1, width=64, heads=2, seconds=25)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="the text that the model has learned")
    parser.add_argument("--output", type=Path, required=True, help="directory to make, or to leave as it is")
    parser.add_argument("--link", type=Path, required=True, help="a name that shall mean it from now on")
    arguments = parser.parse_args()
    if (arguments.output / "config.json").is_file():
        print(f"{arguments.output} is there", flush=True)
    else:
        make(arguments.link.with_name(MODEL), arguments.corpus.read_text(encoding="utf-8"), arguments.output)
    train.link(arguments.link, arguments.output)
    return 0


def make(model: Path, text: str, output: Path) -> None:
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    train.save(train.train(text, DRAFT), scratch / "draft")
    for name, seed in ADAPTERS.items():
        save_adapter(model, scratch / name, seed=seed)
    break_copies(model, scratch)
    shutil.copy(model / "config.json", scratch)
    for path in [scratch, *scratch.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    scratch.rename(output)


def save_adapter(model: Path, output: Path, *, seed: int) -> None:
    """LoRA of random weights on the attention's queries and values: another voice, and always the same."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for layer in range(config["num_hidden_layers"]):
        for module, outputs in (("q_proj", heads * head), ("v_proj", config["num_key_value_heads"] * head)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, width, generator=random) / width**0.5
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, RANK, generator=random) / RANK**0.5
    output.mkdir()
    save_file(tensors, output / "adapter_model.safetensors")
    adapter = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none",
        "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": MODEL,
    }  # fmt: skip
    (output / "adapter_config.json").write_text(json.dumps(adapter, indent=2))


def break_copies(model: Path, directory: Path) -> None:
    """Each is the model with one thing wrong, and is called by it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(model, directory / name, symlinks=False))

    (copy("no-config") / "config.json").unlink()
    weights = copy("truncated") / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1000)
    _reconfigure(copy("strange"), architectures=["NobodysForCausalLM"], model_type="nobodys")
    _reconfigure(copy("other-vocabulary"), vocab_size=300)


def _reconfigure(model: Path, **changed: Any) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed, indent=2))


if __name__ == "__main__":
    sys.exit(main())
