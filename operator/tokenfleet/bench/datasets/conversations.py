"""Conversations as ShareGPT has them: what a user said becomes prompts, what a model answered says how long an answer is. Pure.

    {"id": "…", "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}, …]}

The recorded answers are not sent: a later turn follows the answer of the model that is tested.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tokenfleet.bench.prompts import Prompt

_USERS: Final = ("human", "user")
_MODELS: Final = ("gpt", "assistant", "chatgpt", "bing", "bard", "model")
_FIELDS: Final = ("conversations", "conversation")


def is_conversation(fields: Mapping[str, Any]) -> bool:
    return any(name in fields for name in _FIELDS)


def conversation_of(
    fields: Mapping[str, Any], *, number: int, turns: int, tokens_of: Callable[[str], int]
) -> Prompt | None:  # fmt: skip
    """None where no user says anything. Raises ValueError, without a full stop, where it is no conversation."""
    said = [_part(part) for part in _parts(fields)]
    asked = [place for place, (who, text) in enumerate(said) if who in _USERS and text.strip()]
    if not asked:
        return None
    system = [text for who, text in said[: asked[0]] if who == "system"]
    opening = said[asked[0]][1]
    answers = [text for who, text in said[asked[0] :] if who in _MODELS]
    later = tuple(said[place][1] for place in asked[1:turns])
    messages = (*({"role": "system", "content": text} for text in system), {"role": "user", "content": opening})
    return Prompt(
        text=None if system else opening,
        messages=messages if system else None,
        output_tokens=tokens_of(answers[0]) if answers else None,
        turns=later,
        conversation=number if later else None,
    )


def _parts(fields: Mapping[str, Any]) -> Sequence[Any]:
    parts = next(fields[name] for name in _FIELDS if name in fields)
    if not isinstance(parts, list):
        raise ValueError(f"'conversations' must be a list, not {type(parts).__name__}")
    return parts


def _part(part: Any) -> tuple[str, str]:
    if isinstance(part, dict):
        who, text = part.get("from", part.get("role")), part.get("value", part.get("content"))
        if isinstance(who, str) and isinstance(text, str):
            return who.lower(), text
    raise ValueError(f"each part of a conversation is {{'from': 'human' or 'gpt', 'value': text}} (given: {str(part)[:60]!r})")
