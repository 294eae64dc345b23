"""Looks at a model's files before vLLM does, and says in one sentence what is missing or damaged.

Reads names, sizes, JSON and the headers of safetensors, never a weight: a model of 100 GB is checked in milliseconds. Must
not know vLLM. What vLLM alone can judge (an architecture that it does not know) is left to it; `symptoms` reads its words.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

HEADER_LIMIT: Final = 100_000_000
"""Bytes; the safetensors format allows no longer header."""

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


def inspect_model(path: Path, *, weights: bool = True, tokenizer: bool = True) -> Model:
    """Check all the files that vLLM will need. Raises EngineFailure with ModelNotFound or ModelInvalid."""
    names = _list(path)
    config = _read_json(path / "config.json", names)
    architecture = _architecture(config, path / "config.json")
    files = _weight_files(path, names) if weights else []
    if tokenizer and not any(name in names for name in TOKENIZER_FILES):
        raise _invalid(
            f"{path} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} belongs beside config.json. Copy the whole model."
        )
    text_config = config.get("text_config")  # where a model of several kinds of input keeps the language model's part
    inner: dict[str, Any] = text_config if isinstance(text_config, dict) else config
    dtype = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    context = inner.get("max_position_embeddings")
    return Model(
        path=path,
        architecture=architecture,
        dtype=dtype if isinstance(dtype, str) else "unknown",
        context_tokens=context if isinstance(context, int) else None,
        weight_bytes=sum(_size(file) for file in files),
        weight_files=len(files),
    )


def _list(path: Path) -> set[str]:
    try:
        return {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        raise EngineFailure(contract.REASON_MODEL_NOT_FOUND, f"There is no {path}. {_neighbours(path)}") from None
    except NotADirectoryError:
        raise _invalid(f"{path} is a file; a model is a directory with config.json, weights and a tokenizer.") from None
    except PermissionError:
        raise _unreadable(path) from None
    except OSError as error:
        raise EngineFailure(contract.REASON_MODEL_NOT_FOUND, f"{path} cannot be read: {error.strerror}.") from error


def _neighbours(path: Path) -> str:
    """Name what there is instead: most wrong paths are near to a right one."""
    parent = next((p for p in path.parents if p.is_dir()), None)
    if parent is None:
        return "Neither is there any directory above it."
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in parent.iterdir())
    except OSError:
        return f"{parent} cannot be listed by uid {os.geteuid()}."
    if not names:
        return f"{parent} is there, and empty: is it the right volume, and was the model copied into it?"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{parent} holds: {', '.join(names[:8])}{more}."


def _read_json(file: Path, names: set[str]) -> dict[str, Any]:
    if file.name not in names:
        hint = "It holds a model in Mistral's own format; convert it to Hugging Face's." if "params.json" in names else ""
        listing = hint or _neighbours(file)
        raise _invalid(f"{file.parent} has no {file.name}. {listing}")
    try:
        content = json.loads(_read(file))
    except ValueError as error:
        raise _invalid(f"{file} is not valid JSON ({error}). Copy it anew.") from error
    if not isinstance(content, dict):
        raise _invalid(f"{file} is not a JSON object. Copy it anew.")
    return content


def _architecture(config: dict[str, Any], file: Path) -> str:
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        return architectures[0]
    raise _invalid(f'{file} names no architecture: vLLM needs a line such as "architectures": ["LlamaForCausalLM"].')


def _weight_files(path: Path, names: set[str]) -> list[Path]:
    if INDEX_FILE in names:
        return _indexed_files(path, names)
    files = sorted(path / name for name in names if name.endswith(".safetensors"))
    for file in files:
        check_safetensors(file)
    files = files or sorted(file for pattern in OTHER_WEIGHTS for file in path.glob(pattern))
    if not files:
        raise _invalid(f"{path} has no weights (*.safetensors). {_neighbours(path / 'model.safetensors')}")
    for file in files:
        if _size(file) == 0:
            raise _invalid(f"{file} is empty. Copy it anew.")
    return files


def _indexed_files(path: Path, names: set[str]) -> list[Path]:
    weight_map = _read_json(path / INDEX_FILE, names).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _invalid(f"{path / INDEX_FILE} has no weight_map. Copy it anew.")
    wanted: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        wanted.setdefault(str(name), []).append(tensor)
    missing = sorted(set(wanted) - names)
    if missing:
        raise _invalid(
            f"{len(missing)} of {len(wanted)} weight files are missing in {path}: {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''}. The copy is incomplete; copy them too."
        )
    for name, tensors in sorted(wanted.items()):
        lacking = set(tensors) - check_safetensors(path / name)
        if lacking:
            raise _invalid(
                f"{path / name} lacks {len(lacking)} tensors that {INDEX_FILE} promises, such as {min(lacking)}: "
                "the files are of different versions of the model. Copy them all from one."
            )
    return [path / name for name in sorted(wanted)]


def check_safetensors(file: Path) -> set[str]:
    """The names of the tensors. Raises EngineFailure where the file is shorter or longer than its header says."""
    size = _size(file)
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(HEADER_LIMIT, max(size - 8, 0)):
                raise _invalid(f"{file} is damaged: {size} bytes, its header alone would be {length}. Copy it anew.")
            header = json.loads(stream.read(length))
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        raise _invalid(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _invalid(f"{file} is damaged: its header is not valid JSON. Copy it anew.") from error
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"} if isinstance(header, dict) else {}
    try:
        end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _invalid(f"{file} is damaged: its header does not say where the tensors stand. Copy it anew.") from error
    expected = 8 + length + end
    if size != expected:
        state = "incomplete" if size < expected else "damaged"
        raise _invalid(f"{file} is {state}: {size} bytes, and its header says {expected}. Copy it anew.")
    return set(tensors)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        raise _invalid(f"{file} cannot be read: {error.strerror}.") from error


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        raise _invalid(f"{file} is a link to nothing. Copy the file itself (cp -L).") from None
    except PermissionError:
        raise _unreadable(file) from None


def _unreadable(path: Path) -> EngineFailure:
    return _invalid(
        f"{path} is not readable for uid {os.geteuid()}, which the engine runs as. Make the model's files readable for "
        "everybody (chmod -R a+rX)."
    )


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_INVALID, message)
