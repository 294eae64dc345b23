"""Which of a repository's files vLLM needs. Many hold the same weights several times, and the rest is for people.

One ordered list of rules over names and nothing else, so that the choice can be read, and repeated by hand.
"""

import re
from collections.abc import Sequence
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.listing import RemoteFile

SMALL: Final = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
"""Configuration, tokenizer, chat template, the index of the weights, and a model's own code."""
WEIGHTS: Final = (".safetensors",)
OTHER_WEIGHTS: Final = (".bin", ".pt", ".pth")
"""Taken where there are no safetensors."""
OTHER_FOLDERS: Final = re.compile(
    r"(original|onnx|openvino|coreml|gguf|metal|mlx|tf|flax|runs|logs|checkpoint-\d+|global_step\d+|\..*)"
)
"""The same weights in other forms, what a training left behind, and hidden folders."""
OF_TRAINING: Final = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args|trainer_state).*")
DUPLICATES: Final = re.compile(r"consolidated.*\.safetensors")
"""The weights once more, in Mistral's own format."""
CONFIGURATIONS: Final = ("config.json", "adapter_config.json")


def choose(files: Sequence[RemoteFile], *, source: str, everything: bool = False) -> tuple[RemoteFile, ...]:
    """What to fetch, by path. Raises EngineFailure with ModelInvalid where that is no model."""
    names = {file.path for file in files}
    if not any(name in names for name in CONFIGURATIONS):
        raise _invalid(source, "it has no config.json (nor an adapter's adapter_config.json)", files)
    chosen = tuple(sorted(files, key=lambda file: file.path)) if everything else _needed(files)
    if not any(file.path.endswith(WEIGHTS + OTHER_WEIGHTS) for file in chosen):
        raise _invalid(source, f"it has no weights (*{', *'.join(WEIGHTS + OTHER_WEIGHTS)})", files)
    return chosen


def _needed(files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    usable = [file for file in files if _usable(file.path)]
    safetensors = {file.path for file in usable if file.path.endswith(WEIGHTS)}
    plain = {path for path in safetensors if not DUPLICATES.fullmatch(_name(path))}
    weights = plain or safetensors or {file.path for file in usable if file.path.endswith(OTHER_WEIGHTS)}
    return tuple(
        sorted((file for file in usable if file.path.endswith(SMALL) or file.path in weights), key=lambda file: file.path)
    )


def _usable(path: str) -> bool:
    *folders, name = path.split("/")
    return not any(OTHER_FOLDERS.fullmatch(folder) for folder in folders) and not OF_TRAINING.fullmatch(name)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _invalid(source: str, problem: str, files: Sequence[RemoteFile]) -> EngineFailure:
    names = sorted(file.path for file in files)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return EngineFailure(
        contract.REASON_MODEL_INVALID,
        f"{source} is not a model that vLLM loads: {problem}. It holds: {', '.join(names[:8])}{more}. "
        "Is it the right place, and was the model copied there as it is on Hugging Face?",
    )
