"""Speculative decoding: what was asked for, whether draft and model go together, and vLLM's flag for it.

vLLM compares the sizes of the two vocabularies after half a minute, and nothing else: a draft of another family with a
vocabulary of the same size runs and never guesses right. Here the tokenizers' own tables are compared as well. A draft made for
shorter sequences is no fault: in a step in which any sequence is longer, vLLM accepts nothing, and the plan says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch import files
from tokenfleet_engine.launch.model_config import longest_sequence, number, text_config
from tokenfleet_engine.launch.model_files import Model, inspect_model

METHODS: Final = {"draft": "draft_model", "ngram": "ngram", "eagle3": "eagle3"}
"""Ours → vLLM's."""
_KEYS: Final = frozenset({"method", "num_tokens", "prompt_lookup_min", "prompt_lookup_max"})
AGREEMENT: Final = 0.9
"""Of the entries that both tokenizers number. Special tokens differ within a family; other families share a few per cent."""


@dataclass(frozen=True, slots=True)
class Request:
    """What --speculative says."""

    method: str
    num_tokens: int
    prompt_lookup_min: int | None = None
    prompt_lookup_max: int | None = None


@dataclass(frozen=True, slots=True)
class Speculation:
    request: Request
    draft: Model | None = None
    reaches: int | None = None
    """Tokens up to which the draft is of use, where that is less than the model's longest sequence."""

    def flags(self) -> tuple[str, ...]:
        given: dict[str, Any] = {"method": METHODS[self.request.method]}
        if self.draft:
            given["model"] = str(self.draft.path)
        given["num_speculative_tokens"] = self.request.num_tokens
        for name in ("prompt_lookup_min", "prompt_lookup_max"):
            if (value := getattr(self.request, name)) is not None:
                given[name] = value
        return ("--speculative-config", json.dumps(given))

    def describe(self) -> str:
        source = "earlier text of the same sequence" if self.draft is None else str(self.draft.path)
        reach = f"; no gain while a sequence of the batch is beyond {self.reaches} tokens" if self.reaches else ""
        return f"{self.request.num_tokens} tokens a step ({self.request.method}) from {source}{reach}"


def read_request(text: str) -> Request:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise _refused(f"--speculative is not valid JSON: {error}.") from error
    if not isinstance(given, dict) or given.get("method") not in METHODS:
        raise _refused(f"--speculative needs a method, one of {', '.join(METHODS)}.")
    if unknown := given.keys() - _KEYS:
        raise _refused(f"--speculative has no {min(unknown)}: it takes {', '.join(sorted(_KEYS))}.")
    for name in _KEYS - {"method"}:
        value = given.get(name)
        wrong = not isinstance(value, int) or isinstance(value, bool) or value < 1
        if wrong and not (value is None and name != "num_tokens"):
            raise _refused(f"--speculative: {name} is a whole number of at least 1, not {value!r}.")
    least, most = given.get("prompt_lookup_min"), given.get("prompt_lookup_max")
    if given["method"] != "ngram" and (least or most):
        raise _refused("--speculative: promptLookup is for the method ngram alone.")
    if least and most and least > most:
        raise _refused(f"--speculative: promptLookup.min ({least}) is above promptLookup.max ({most}).")
    return Request(**given)


def plan_speculation(request: Request, *, model: Model, draft: Path | None) -> Speculation:
    """Raises EngineFailure where the draft and the model cannot work together."""
    if request.method == "ngram":
        if draft is not None:
            raise _refused("Speculative method ngram drafts from the text itself and takes no draftModel: remove one of them.")
        return Speculation(request)
    if draft is None:
        raise _refused(f"Speculative method {request.method} needs a draft model's files (draftModel).")
    found = inspect_model(draft, tokenizer=False)
    if request.method == "eagle3":
        _check_head(found, model=model)
    elif _is_head(found):
        raise _refused(f"{found.path} is an EAGLE head and no model of its own: use method eagle3 with it.")
    _check_vocabulary_size(found, model=model)
    if request.method == "draft":
        _check_tokenizer(found, model=model)
        own, whole = longest_sequence(found.config), longest_sequence(model.config)
        return Speculation(request, found, reaches=own if own and whole and own < whole else None)
    return Speculation(request, found)


def _check_vocabulary_size(draft: Model, *, model: Model) -> None:
    """vllm/config/speculative.py:verify_equal_vocab_size_if_draft_model."""
    own, other = number(draft.config, "vocab_size"), number(model.config, "vocab_size")
    if own and other and own != other:
        raise _refused(
            f"The draft {draft.path} has a vocabulary of {own} tokens and the model one of {other}: a draft has to come from "
            "the model's own family, with the same tokenizer. Choose another draftModel, or method ngram, which needs none."
        )


def _check_tokenizer(draft: Model, *, model: Model) -> None:
    pair = (draft.path / "tokenizer.json", model.path / "tokenizer.json")
    if not all(file.is_file() for file in pair):
        return
    contents = [files.read(file) for file in pair]
    if contents[0] == contents[1]:
        return
    own, other = (_numbered(content) for content in contents)
    same, whole = sum(own.get(key) == text for key, text in other.items()), max(len(own), len(other))
    if own and other and same < AGREEMENT * whole:
        raise _refused(
            f"The draft {draft.path} and the model number their tokens differently: {same} of {whole} agree. Its guesses "
            "would never be right. Choose a draftModel of the model's own family, or method ngram."
        )


def _numbered(content: bytes) -> Mapping[int, str]:
    """A tokenizer's table, by number; empty where it is kept in a way that we do not know."""
    try:
        vocabulary = json.loads(content)["model"]["vocab"]
    except (ValueError, KeyError, TypeError):
        return {}
    if isinstance(vocabulary, dict):
        return {number: text for text, number in vocabulary.items()}
    if isinstance(vocabulary, list):
        return {number: str(entry[0]) for number, entry in enumerate(vocabulary) if entry}
    return {}


def _check_head(head: Model, *, model: Model) -> None:
    if head.shapes and not _is_head(head):
        raise _refused(
            f"{head.path} ({head.architecture}) is no EAGLE-3 head: it has no fc.weight to take hidden states with. "
            "A small model of the same family goes with method draft."
        )
    width, hidden = head.shapes.get("fc.weight"), number(model.config, "hidden_size")
    if width and hidden and len(width) == 2 and width[1] % hidden:
        raise _refused(
            f"The EAGLE-3 head {head.path} was made for another model: its fc.weight takes {width[1]} numbers, which is no "
            f"multiple of this model's hidden size, {hidden}. Choose the head that was trained for this model."
        )


def _is_head(model: Model) -> bool:
    named = "eagle" in model.architecture.lower() or "speculators_config" in model.config
    return named or "draft_vocab_size" in text_config(model.config) or "fc.weight" in model.shapes


def _refused(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
