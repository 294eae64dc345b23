"""Looks at a model's files before vLLM does, and says in one sentence what is missing or damaged.

Reads names, sizes, JSON and the headers of safetensors, never a weight: a model of 100 GB is checked in milliseconds. Must
not know vLLM. What the configuration means for an engine is `model_config`'s and `limits`'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tokenfleet_engine.launch import files
from tokenfleet_engine.launch.model_config import text_config
from tokenfleet_engine.launch.tensors import Shapes, read_shapes

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")
OTHER_WEIGHTS: Final = ("*.bin", "*.pt", "*.pth")
INDEX_FILE: Final = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Model:
    """What the files say about the model."""

    path: Path
    architecture: str
    dtype: str
    context_tokens: int | None
    """The longest sequence that the model was made for, where its configuration says so."""
    weight_bytes: int
    weight_files: int
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of its tensors, by name; empty where the weights are not safetensors or are not read."""


def inspect_model(path: Path, *, weights: bool = True, tokenizer: bool = True) -> Model:
    """Check all the files that vLLM will need. Raises EngineFailure with ModelNotFound or ModelInvalid."""
    names = files.list_names(path, holds="a model is a directory with config.json, weights and a tokenizer")
    config = _read_json(path / "config.json", names)
    architecture = _architecture(config, path / "config.json")
    found, shapes = _weights(path, names) if weights else ([], {})
    if tokenizer and not any(name in names for name in TOKENIZER_FILES):
        raise files.invalid(
            f"{path} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} belongs beside config.json. Copy the whole model."
        )
    if tokenizer and "tokenizer.json" in names:
        _check_end(path / "tokenizer.json")
    inner = text_config(config)
    dtype = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    context = inner.get("max_position_embeddings")
    return Model(
        path=path,
        architecture=architecture,
        dtype=dtype if isinstance(dtype, str) else "unknown",
        context_tokens=context if isinstance(context, int) else None,
        weight_bytes=sum(files.size(file) for file in found),
        weight_files=len(found),
        config=config,
        shapes=shapes,
    )


def _read_json(file: Path, names: set[str]) -> dict[str, Any]:
    if file.name not in names:
        hint = "It holds a model in Mistral's own format; convert it to Hugging Face's." if "params.json" in names else ""
        raise files.invalid(f"{file.parent} has no {file.name}. {hint or files.neighbours(file)}")
    return files.read_json(file)


def _architecture(config: dict[str, Any], file: Path) -> str:
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        return architectures[0]
    raise files.invalid(f'{file} names no architecture: vLLM needs a line such as "architectures": ["LlamaForCausalLM"].')


def _check_end(file: Path) -> None:
    """Of a JSON object that may be large: a copy that broke off does not end as one."""
    if not files.read(file).rstrip().endswith(b"}"):
        raise files.invalid(f"{file} is incomplete: it does not end with its object. Copy it anew.")


def _weights(path: Path, names: set[str]) -> tuple[list[Path], Shapes]:
    if INDEX_FILE in names:
        return _indexed_weights(path, names)
    shapes: Shapes = {}
    found = sorted(path / name for name in names if name.endswith(".safetensors"))
    for file in found:
        shapes.update(read_shapes(file))
    found = found or sorted(file for pattern in OTHER_WEIGHTS for file in path.glob(pattern))
    if not found:
        raise files.invalid(f"{path} has no weights (*.safetensors). {files.neighbours(path / 'model.safetensors')}")
    for file in found:
        if files.size(file) == 0:
            raise files.invalid(f"{file} is empty. Copy it anew.")
    return found, shapes


def _indexed_weights(path: Path, names: set[str]) -> tuple[list[Path], Shapes]:
    weight_map = _read_json(path / INDEX_FILE, names).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise files.invalid(f"{path / INDEX_FILE} has no weight_map. Copy it anew.")
    wanted: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        wanted.setdefault(str(name), []).append(tensor)
    missing = sorted(set(wanted) - names)
    if missing:
        raise files.invalid(
            f"{len(missing)} of {len(wanted)} weight files are missing in {path}: {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''}. The copy is incomplete; copy them too."
        )
    shapes: Shapes = {}
    for name, tensors in sorted(wanted.items()):
        held = read_shapes(path / name)
        if lacking := set(tensors) - held.keys():
            raise files.invalid(
                f"{path / name} lacks {len(lacking)} tensors that {INDEX_FILE} promises, such as {min(lacking)}: "
                "the files are of different versions of the model. Copy them all from one."
            )
        shapes.update(held)
    return [path / name for name in sorted(wanted)], shapes
