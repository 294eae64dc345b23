"""Reads a trace in Chrome's format event by event: a trace can be larger than the memory that a pod has left.

The file is one JSON object whose `traceEvents` is the long list. Its events are decoded one after the other, and what stands
around them is checked at the end, so a file that was cut off is found out. Raises TraceInvalid with the place.
"""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

CHUNK: Final = 1 << 20
HEAD_LIMIT: Final = 64 * CHUNK
"""Characters before the list of events; torch writes a few thousand."""
_LIST: Final = re.compile(r'"traceEvents"\s*:\s*\[')
_SPACE: Final = re.compile(r"\s*")


class TraceInvalid(Exception):
    """Not a whole Chrome trace. The message is a sentence that goes on after the file's name."""


def read_trace(file: Path) -> Iterator[dict[str, Any]]:
    """The events of a .json or .json.gz."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as stream:
            yield from read_events(stream)
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise TraceInvalid(f"cannot be read to its end: {error}") from error


def read_events(stream: TextIO, *, chunk: int = CHUNK) -> Iterator[dict[str, Any]]:
    text = _Text(stream, chunk)
    head = text.read_past(_LIST)
    count = 0
    while text.peek() != "]":
        if count and text.take() != ",":
            raise TraceInvalid(f"is no valid JSON after event {count}")
        event = text.decode(after=count)
        count += 1
        if not isinstance(event, dict) or "ph" not in event:
            raise TraceInvalid(f"is no Chrome trace: event {count} has no phase (ph)")
        yield event
    try:
        json.loads(head + text.rest())
    except ValueError as error:
        raise TraceInvalid(f"is no valid JSON around its {count} events: {error}") from error


class _Text:
    """The unread part of a stream: looked at, taken, and filled up as needed."""

    def __init__(self, stream: TextIO, chunk: int) -> None:
        self._stream = stream
        self._chunk = chunk
        self._buffer = ""
        self._place = 0
        self._decoder = json.JSONDecoder()

    def read_past(self, pattern: re.Pattern[str]) -> str:
        while (match := pattern.search(self._buffer)) is None:
            if not self._fill() or len(self._buffer) > HEAD_LIMIT:
                raise TraceInvalid("is no Chrome trace: it has no list of traceEvents")
        self._place = match.end()
        return self._buffer[: match.end()]

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            match = _SPACE.match(self._buffer, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._fill():
                raise TraceInvalid("was cut off within its events")

    def take(self) -> str:
        character = self.peek()
        self._place += 1
        return character

    def decode(self, *, after: int) -> Any:
        self.peek()
        while True:
            try:
                value, self._place = self._decoder.raw_decode(self._buffer, self._place)
                return value
            except ValueError as error:
                if len(self._buffer) - self._place > HEAD_LIMIT or not self._fill():
                    raise TraceInvalid(f"is no valid JSON after event {after}: {error}") from error

    def rest(self) -> str:
        while self._fill():
            if len(self._buffer) - self._place > HEAD_LIMIT:
                raise TraceInvalid("is no Chrome trace: too much stands behind its events")
        return self._buffer[self._place :]

    def _fill(self) -> bool:
        more = self._stream.read(self._chunk)
        self._buffer, self._place = self._buffer[self._place :] + more, 0
        return bool(more)
