"""Prompts that somebody wrote down, one a record. Pure.

    {"prompt": "…", "output_tokens": 200}
    {"messages": [{"role": "user", "content": "…"}], "output_tokens": 200}

output_tokens may be left out; then the server's default holds. A prompt may also be a list of token numbers.
"""

from collections.abc import Mapping
from typing import Any, Final

from tokenfleet.bench.prompts import Prompt

_LENGTHS: Final = ("output_tokens", "max_tokens", "max_completion_tokens", "output_len", "expected_output_len")
_LONGEST: Final = 1 << 24


def is_written(fields: Mapping[str, Any]) -> bool:
    return "prompt" in fields or "messages" in fields


def written_of(fields: Mapping[str, Any]) -> Prompt | None:
    """None where it is empty. Raises ValueError, without a full stop, where it is none."""
    length = next((fields[name] for name in _LENGTHS if fields.get(name) is not None), None)
    tokens = None if length is None else whole(length, "output_tokens", least=1)
    if fields.get("messages") is not None:
        messages = fields["messages"]
        if not isinstance(messages, list) or not all(isinstance(each, dict) and "role" in each for each in messages):
            raise ValueError("'messages' must be a list of {'role': …, 'content': …}")
        return Prompt(messages=tuple(messages), output_tokens=tokens) if messages else None
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return Prompt(text=prompt, output_tokens=tokens) if prompt else None
    if isinstance(prompt, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in prompt):
        return Prompt(token_ids=tuple(prompt), output_tokens=tokens, input_tokens=len(prompt)) if prompt else None
    raise ValueError(f"'prompt' must be a text or a list of token numbers, not {type(prompt).__name__}")


def whole(given: object, name: str, *, least: int) -> int:
    """Raises ValueError. CSV has numbers as text."""
    try:
        number = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(given, bool) or number != int(number) or not least <= number <= _LONGEST:
        raise ValueError(f"{name!r} must be a whole number from {least} to {_LONGEST} (given: {given!r})")
    return int(number)
