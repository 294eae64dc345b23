"""What an answer says it used, in tokens: found in the bytes as they pass, without decoding the answer.

`"usage":` can only be a field's name: inside of a JSON string its quotes would be escaped, so no text that a model writes can
pass for it.
"""

import re
from typing import Final

import msgspec

NAME: Final = b'"usage":'
_USUAL: Final = re.compile(
    rb'"usage":\s*+\{\s*+"prompt_tokens":\s*+([0-9]{1,12}+),\s*+"total_tokens":\s*+[0-9]++,\s*+"completion_tokens":\s*+([0-9]{1,12})'
)
"""As vLLM writes it: one match is cheaper than two searches."""
_PROMPT: Final = re.compile(rb'"prompt_tokens":\s*([0-9]{1,12})')
_COMPLETION: Final = re.compile(rb'"completion_tokens":\s*([0-9]{1,12})')
_KEPT: Final = 2048
"""Bytes after the field's name within which its numbers stand."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """In tokens."""

    prompt: int
    completion: int
    """0 where nothing is generated: embeddings."""

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def find_usage(data: bytes) -> Usage | None:
    """The last usage in some bytes, or None."""
    start = data.rfind(NAME)
    if start < 0:
        return None
    usual = _USUAL.match(data, start)
    if usual is not None:
        return Usage(int(usual[1]), int(usual[2]))
    prompt = _PROMPT.search(data, start)
    completion = _COMPLETION.search(data, start)
    return Usage(int(prompt[1]), int(completion[1]) if completion else 0) if prompt else None


class UsageScan:
    """Of an answer that comes in parts."""

    __slots__ = ("_tail", "found")

    def __init__(self) -> None:
        self.found: Usage | None = None
        self._tail = b""

    def feed(self, payload: bytes) -> None:
        """The next part. What may go on in the part after it is kept."""
        data = self._tail + payload if self._tail else payload
        self.found = find_usage(data) or self.found
        start = data.rfind(NAME)
        self._tail = data[max(start, 0) if start >= 0 and len(data) - start < _KEPT else -len(NAME) :]
