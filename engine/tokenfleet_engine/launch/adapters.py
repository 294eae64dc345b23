"""LoRA adapters: whether vLLM will take each of them and it fits the model, and vLLM's flags for all of them.

vLLM loads adapters last, when the model is in memory and the engine nearly serves; a wrong one costs minutes on each try. What
it asks of an adapter (vllm/lora/peft_helper.py) stands in its adapter_config.json, and whether it fits is seen from the shapes
of its tensors beside the model's. Where the model's tensors are not to be compared (quantised, fused), vLLM decides.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch import files
from tokenfleet_engine.launch.model_files import Model
from tokenfleet_engine.launch.tensors import Shapes, read_shapes
from tokenfleet_engine.launch.user_flags import UserFlags

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be (vllm/config/lora.py)."""
AT_ONCE: Final = 8
"""Adapters in one batch, unless --max-loras says otherwise: each takes a place in the card's memory for good."""
WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
PREFIX: Final = "base_model.model."
_CLASSIFIERS: Final = frozenset({"classifier", "score"})
_OFTEN_TIED: Final = frozenset({"lm_head", "embed_tokens"})
"""Modules that a checkpoint may leave out."""
_PLAIN_STARTS: Final = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})

UNSUPPORTED: Final[Mapping[str, Callable[[Any], bool]]] = {
    "alora_invocation_tokens": bool,
    "bias": lambda value: value not in (None, "none"),
    "init_lora_weights": lambda value: isinstance(value, str) and value.lower() not in _PLAIN_STARTS,
    "layer_replication": bool,
    "lora_bias": bool,
    "modules_to_save": lambda value: bool(set(value or ()) - _CLASSIFIERS),
    "use_bdlora": bool,
    "use_dora": bool,
    "use_qalora": bool,
}
"""Settings of PEFT that vLLM refuses, and when."""


@dataclass(frozen=True, slots=True)
class Adapter:
    name: str
    path: Path
    rank: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Adapters:
    """All of an engine's; none is nothing to vLLM.

    On a CPU there has to be one place more than adapters, and so a place for each: vLLM 0.32 computes what asks for none with
    whatever stands in the last place (vllm/lora/ops/torch_ops: index -1) as soon as its batch holds an adapter's request.
    """

    each: tuple[Adapter, ...] = ()
    cpu: bool = False

    @property
    def rank(self) -> int:
        """The least of vLLM's ranks that holds them all."""
        return next(rank for rank in RANKS if rank >= max(adapter.rank for adapter in self.each))

    def flags(self, user: UserFlags) -> tuple[str, ...]:
        if not self.each:
            return ()
        at_once = user.value("--max-loras") or str(len(self.each) + 1 if self.cpu else min(len(self.each), AT_ONCE))
        kept = max(len(self.each), int(at_once) if at_once.isdigit() else 0)
        modules = (json.dumps({"name": adapter.name, "path": str(adapter.path)}) for adapter in self.each)
        return (
            "--enable-lora", "--max-lora-rank", str(self.rank), "--max-loras", at_once, "--max-cpu-loras", str(kept),
            "--lora-modules", *modules,
        )  # fmt: skip

    def describe(self) -> str:
        return ", ".join(f"{adapter.name} (rank {adapter.rank})" for adapter in self.each)


def inspect_adapters(given: Sequence[str], *, model: Model, served_name: str, cpu: bool, user: UserFlags) -> Adapters:
    """Of NAME=PATH each. Raises EngineFailure for the first that vLLM would not take."""
    pairs = [(name, Path(path)) for name, _, path in (each.partition("=") for each in given)]
    names = [name for name, _ in pairs]
    for name, path in pairs:
        if not name or path == Path():
            raise _refused("--adapter takes NAME=PATH.")
        if name == served_name or names.count(name) > 1:
            raise _refused(f"The name {name} is taken twice: an adapter is asked for by its name, as the model is. Rename it.")
    found = Adapters(tuple(inspect_adapter(name, path, model=model) for name, path in pairs), cpu=cpu)
    places = user.value("--max-loras") or ""
    if cpu and found.each and places.isdigit() and int(places) <= len(found.each):
        raise _refused(
            f"extraArgs says --max-loras {places}, and on a CPU vLLM needs one place more than there are adapters "
            f"({len(found.each)}): it would answer requests for the model with an adapter's words. Remove that flag."
        )
    limit = user.value("--max-lora-rank") or ""
    for adapter in found.each:
        if limit.isdigit() and adapter.rank > int(limit):
            raise _refused(
                f"The adapter {adapter.name} has rank {adapter.rank}, and extraArgs allows {limit} (--max-lora-rank): remove "
                "that flag; Tokenfleet takes the rank from the adapters."
            )
    return found


def inspect_adapter(name: str, path: Path, *, model: Model) -> Adapter:
    names = files.list_names(path, holds="an adapter is a directory with adapter_config.json and adapter_model.safetensors")
    if "adapter_config.json" not in names:
        hint = "It holds a whole model; an adapter belongs here." if "config.json" in names else files.neighbours(path / "x")
        raise files.invalid(f"The adapter {name} has no adapter_config.json in {path}. {hint}")
    config = files.read_json(path / "adapter_config.json")
    rank = _rank(config, name=name, file=path / "adapter_config.json")
    weights = next((path / each for each in WEIGHTS if each in names), None)
    if weights is None:
        raise files.invalid(f"The adapter {name} has no weights ({WEIGHTS[0]}). {files.neighbours(path / 'x')}")
    if weights.suffix == ".safetensors":
        _check_fit(name, read_shapes(weights), model=model)
    return Adapter(name=name, path=path, rank=rank, weight_bytes=files.size(weights))


def _rank(config: Mapping[str, Any], *, name: str, file: Path) -> int:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise files.invalid(f"The adapter {name} is of the kind {kind}, and vLLM takes LORA alone ({file}).")
    if missing := {"r", "lora_alpha", "target_modules"} - config.keys():
        raise files.invalid(f"{file} does not say {', '.join(sorted(missing))}, which vLLM needs. Copy the adapter anew.")
    for setting, refused in UNSUPPORTED.items():
        if refused(config.get(setting)):
            raise files.invalid(
                f"The adapter {name} uses {setting}={json.dumps(config[setting])}, which vLLM cannot run: train it without, or "
                "merge it into the model."
            )
    pattern = config.get("rank_pattern") or {}
    ranks = [config["r"], *(pattern.values() if isinstance(pattern, dict) else ())]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise files.invalid(f"{file} gives a rank that is no whole number above 0. Copy the adapter anew.")
    if max(ranks) > RANKS[-1]:
        raise files.invalid(
            f"The adapter {name} has rank {max(ranks)}, and vLLM takes {RANKS[-1]} at most: train one of a lower rank, or "
            "merge it into the model."
        )
    return int(max(ranks))


def _check_fit(name: str, shapes: Shapes, *, model: Model) -> None:
    """Compare with the model's own tensors: A takes what the layer takes, B gives what it gives."""
    changed = set()
    for tensor, shape in sorted(shapes.items()):
        module, _, part = tensor.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if part not in ("lora_A", "lora_B") or len(shape) != 2 or ".experts" in module:
            continue
        changed.add(_last(module))
        base = model.shapes.get(f"{module}.weight", ())
        side = shape[1] if part == "lora_A" else shape[0]
        if len(base) == 2 and side not in base:
            raise files.invalid(
                f"The adapter {name} was made for another model: {tensor} is {_sides(shape)}, and {module} of {model.path} is "
                f"{_sides(base)}. Choose an adapter of this model."
            )
    held = {part for tensor in model.shapes for part in tensor.split(".")} | _OFTEN_TIED
    if changed and model.shapes and changed.isdisjoint(held):
        raise files.invalid(
            f"The adapter {name} was made for another model: it changes {', '.join(sorted(changed))}, and {model.architecture} "
            f"at {model.path} has no such module. Choose an adapter of this model."
        )


def _last(module: str) -> str:
    return module.rpartition(".")[2]


def _sides(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _refused(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
