"""How long a step takes: a linear model of the work in it, and the file that a fit leaves.

A step costs something by itself, for each sequence that gets its next token, for each token of context that those look back on,
for each token of a prompt, and for each pair of a prompt's token and one before it. A request costs something before its
first step: parsing, tokenizing, the way to the scheduler. Nothing here is smaller than zero.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

DEFAULT: Final = Path(__file__).parent / "timings" / "tokenfleet-demo-cpu.json"
PROMPT_OF_TTFT: Final = 1000
"""Tokens of the prompt whose time to the first token --ttft-ms says."""


@dataclass(slots=True)
class Work:
    """What one step computes."""

    decodes: int = 0
    """Sequences that get their next token."""
    context_tokens: int = 0
    """What those look back on."""
    prompt_tokens: int = 0
    attended_tokens: float = 0.0
    """Pairs of a prompt's token and one before it."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """In seconds."""

    request: float = 0.0
    step: float = 0.0
    decode: float = 0.0
    context_token: float = 0.0
    prompt_token: float = 0.0
    attended_token: float = 0.0

    def seconds(self, work: Work) -> float:
        """Of one step."""
        return (
            self.step
            + self.decode * work.decodes
            + self.context_token * work.context_tokens
            + self.prompt_token * work.prompt_tokens
            + self.attended_token * work.attended_tokens
        )

    def scaled(self, factor: float) -> "Coefficients":
        return Coefficients(**{name: value * factor for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Timing:
    """Coefficients and where they come from: model, hardware, and how far they are off."""

    seconds: Coefficients
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"seconds": asdict(self.seconds), "fitted": dict(self.fitted)}, indent=2) + "\n")


def read_timing(path: Path) -> Timing:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seconds = {name: float(value) for name, value in content["seconds"].items()}
        if unknown := seconds.keys() - {each.name for each in fields(Coefficients)}:
            raise ValueError(f"unknown coefficients {', '.join(sorted(unknown))}")
        if bad := [name for name, value in seconds.items() if not 0 <= value < math.inf]:
            raise ValueError(f"{', '.join(bad)} must be a number and not below zero")
        return Timing(Coefficients(**seconds), content.get("fitted", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailure(
            contract.REASON_ENGINE_CONFIG_INVALID,
            f"{path} is no timing file ({type(error).__name__}: {error}): give one that `simulate --fit` wrote.",
        ) from error


def constant_timing(*, ttft_ms: float, itl_ms: float, max_num_batched_tokens: int) -> Timing:
    """A step takes `itl_ms`, however many run; a lone prompt of PROMPT_OF_TTFT tokens has its first after `ttft_ms`."""
    steps = math.ceil(PROMPT_OF_TTFT / max_num_batched_tokens)
    if itl_ms < 0 or ttft_ms < steps * itl_ms:
        raise EngineFailure(
            contract.REASON_ENGINE_CONFIG_INVALID,
            f"--ttft-ms {ttft_ms:g} is less than the {steps} step(s) of --itl-ms {itl_ms:g} that a prompt of {PROMPT_OF_TTFT} "
            "tokens takes: raise it, or lower --itl-ms.",
        )
    prompt_token = (ttft_ms - steps * itl_ms) / PROMPT_OF_TTFT
    return Timing(Coefficients(step=itl_ms / 1000, prompt_token=prompt_token / 1000))
