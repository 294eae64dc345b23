"""What hardware has cost by what it was used for: a request, a million tokens of prompts and of answers, and the idle time.

All of the cost is shared out, that of idle time too, since somebody pays it: among tokens, where one of an answer counts as
`output_weight` tokens of a prompt. Engines read a prompt's tokens all at once and write an answer's one by one, and APIs price
them at 1 to 3 up to 1 to 5 for that reason; the weight changes what each kind costs, and never their sum.
"""

from dataclasses import dataclass
from typing import Final

OUTPUT_WEIGHT: Final = 4.0
"""Tokens of a prompt that one of an answer counts as: the middle of what APIs charge."""
MILLION: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Of some hardware, over some time."""

    cost: float
    """Of all of it."""
    idle_cost: float = 0.0
    """Of that, what was spent while no request was in flight."""
    requests: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What it came to; None: it was not used, so that there is nothing to share the cost among."""

    per_request: float | None
    per_million_tokens: float | None
    """Prompts' and answers' together."""
    per_million_prompt: float | None
    per_million_completion: float | None
    idle_share: float | None


def cost_of(use: Use, *, output_weight: float = OUTPUT_WEIGHT) -> Rates:
    """prompt tokens × per_million_prompt + completion tokens × per_million_completion is a million times the cost."""
    if output_weight <= 0:
        raise ValueError(f"output_weight is {output_weight}: a token of an answer has to count for something")
    tokens = use.prompt_tokens + use.completion_tokens
    weighted = use.prompt_tokens + output_weight * use.completion_tokens
    prompt = MILLION * use.cost / weighted if weighted else None
    return Rates(
        per_request=use.cost / use.requests if use.requests else None,
        per_million_tokens=MILLION * use.cost / tokens if tokens else None,
        per_million_prompt=prompt,
        per_million_completion=None if prompt is None else prompt * output_weight,
        idle_share=min(1.0, use.idle_cost / use.cost) if use.cost else None,
    )


def weigh(prompt_tokens: float, completion_tokens: float, *, output_weight: float = OUTPUT_WEIGHT) -> float:
    """What a part of the use counts for, when a cost is shared among parts: of keys, of namespaces."""
    return prompt_tokens + output_weight * completion_tokens
