"""What routers count of requests and tokens, out of the text of their metrics. Pure.

Counters begin at nought with each router, so a difference of two looks takes what a router that is new, or began anew, says as
it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenfleet import contract

_SAMPLE: Final = re.compile(r"^(\w+)\{(.*)\} (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES: Final = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one key."""

    prompt: float = 0.0
    completion: float = 0.0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __mul__(self, share: float) -> "Tokens":
        return Tokens(self.prompt * share, self.completion * share)

    def since(self, before: "Tokens") -> "Tokens":
        if self.prompt < before.prompt or self.completion < before.completion:
            return self
        return Tokens(self.prompt - before.prompt, self.completion - before.completion)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one model."""

    requests: float = 0.0
    """That were answered well."""
    keys: Mapping[str, Tokens] = field(default_factory=dict)
    """By the name of the key."""

    @property
    def tokens(self) -> Tokens:
        return sum(self.keys.values(), Tokens())

    def __add__(self, other: "Counts") -> "Counts":
        names = {**self.keys, **other.keys}
        keys = {name: self.keys.get(name, Tokens()) + other.keys.get(name, Tokens()) for name in names}
        return Counts(self.requests + other.requests, keys)

    def __mul__(self, share: float) -> "Counts":
        return Counts(self.requests * share, {name: tokens * share for name, tokens in self.keys.items()})

    def since(self, before: "Counts") -> "Counts":
        keys = {name: tokens.since(before.keys.get(name, Tokens())) for name, tokens in self.keys.items()}
        requests = self.requests - before.requests if self.requests >= before.requests else self.requests
        return Counts(requests, {name: tokens for name, tokens in keys.items() if tokens != Tokens()})


Models = Mapping[str, Counts]
"""By the name that requests give as `model`."""


def counts_of(text: str) -> Models:
    """Of one router, since it began."""
    requests: dict[str, float] = {}
    keys: dict[str, dict[str, Tokens]] = {}
    for name, labels, value in _samples(text):
        model = labels.get("model", "")
        if not model:
            continue
        if name == f"{contract.METRIC_REQUESTS}_total" and labels.get("code", "").startswith("2"):
            requests[model] = requests.get(model, 0.0) + value
        elif name in _KINDS:
            found = keys.setdefault(model, {})
            key = labels.get("key", "")
            found[key] = found.get(key, Tokens()) + (Tokens(value) if _KINDS[name] else Tokens(0.0, value))
    return {model: Counts(requests.get(model, 0.0), keys.get(model, {})) for model in {**requests, **keys}}


_KINDS: Final = {f"{contract.METRIC_PROMPT_TOKENS}_total": True, f"{contract.METRIC_COMPLETION_TOKENS}_total": False}
"""Whether they are those of prompts."""


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is not None:
            labels = {name: _unescaped(value) for name, value in _LABEL.findall(found[2])}
            yield found[1], labels, float(found[3])


def _unescaped(value: str) -> str:
    return re.sub(r'\\[\\"n]', lambda escape: _ESCAPES[escape[0]], value)


def added(parts: Iterable[Models]) -> dict[str, Counts]:
    """Of several routers."""
    total: dict[str, Counts] = {}
    for part in parts:
        for model, counts in part.items():
            total[model] = total.get(model, Counts()) + counts
    return total


def since(now: Models, before: Models) -> dict[str, Counts]:
    """Of one router, between two looks."""
    return {model: counts.since(before.get(model, Counts())) for model, counts in now.items()}
