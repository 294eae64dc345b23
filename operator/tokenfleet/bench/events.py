"""Reads a streamed answer: server-sent events as they come in pieces, and what each says. No I/O, and no clock.

Most events are a token and nothing else, and a benchmark shares its machine with the server: such an event is recognised by
its bytes and not parsed. Inside a JSON string every quote is escaped, so `"usage"` with bare quotes is a key, or a whole value.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_DONE: Final = b"[DONE]"


class Lines:
    """Cuts bytes into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that have now ended, each without its empty line; pieces may end anywhere, and lines with CR LF."""
        data = self._rest + data
        if b"\r" in data:
            held = data.endswith(b"\r")
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held else b"")
        *events, self._rest = data.split(b"\n\n")
        return events


@dataclass(slots=True)
class Answer:
    """What a stream has said so far."""

    keep_text: bool = False
    chunks: int = 0
    """With tokens."""
    done: bool = False
    """[DONE] has come."""
    error: str | None = None
    usage: tuple[int, int] | None = None
    """Tokens of the prompt, and of the answer."""
    _kept: list[bytes] = field(default_factory=list)

    def take(self, event: bytes) -> bool:
        """Whether the event has a token."""
        data, named_error = (event[5:].lstrip(), False) if _plain(event) else _lines(event)
        if not data:
            return False
        if data == _DONE:
            self.done = True
            return False
        suspect = named_error or b'"error"' in data or not data.startswith(b"{")
        if suspect and (told := _error_of(data, named_error)) is not None:
            self.error = told
            return False
        if b'"usage"' in data and (counts := _usage_of(data)) is not None:
            self.usage = counts
        if b'"choices":[]' in data or b'"choices": []' in data or b'"choices"' not in data:
            return False
        if not self.chunks and _role_alone(data):
            return False
        self.chunks += 1
        if self.keep_text:
            self._kept.append(data)
        return True

    def text(self) -> str:
        return "".join(map(_text_of, self._kept))


def message_of(body: bytes) -> tuple[str | None, str]:
    """(code, message) of a refusal's body, whatever it is."""
    told = _parsed(body)
    error = told.get("error", told) if isinstance(told, dict) else None
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        message = error.get("message") or error.get("detail") or json.dumps(error)
        return (None if code is None else str(code)), str(message)[:_SHOWN]
    return None, body.decode("utf-8", "replace").strip()[:_SHOWN] or "no reason given"


_SHOWN: Final = 300


def _plain(event: bytes) -> bool:
    return event.startswith(b"data:") and b"\n" not in event


def _lines(event: bytes) -> tuple[bytes, bool]:
    """(its data, whether it is named an error). Comments, which keep connections alive, have no data."""
    data, named_error = [], False
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            named_error = value.strip() == b"error"
    return b"\n".join(data).strip(), named_error


def _error_of(data: bytes, named_error: bool) -> str | None:
    told = _parsed(data)
    if not isinstance(told, dict):
        return f"an event is no JSON object: {data[:80].decode('utf-8', 'replace')}"
    if not named_error and not told.get("error"):
        return None
    code, message = message_of(data)
    return f"{code}: {message}" if code else message


def _usage_of(data: bytes) -> tuple[int, int] | None:
    told = _parsed(data)
    usage = told.get("usage") if isinstance(told, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (int(counts[0] or 0), int(counts[1] or 0)) if any(isinstance(count, int) for count in counts) else None


def _role_alone(data: bytes) -> bool:
    """A chat's first chunk, which some servers send before they have any token."""
    for delta in _deltas(data):
        return "role" in delta and not any(value for name, value in delta.items() if name != "role")
    return False


def _text_of(data: bytes) -> str:
    told = _parsed(data)
    choice = told["choices"][0] if isinstance(told, dict) else {}
    return choice.get("text") or (choice.get("delta") or {}).get("content") or ""


def _deltas(data: bytes) -> Iterable[dict[str, Any]]:
    told = _parsed(data)
    choices = told.get("choices") if isinstance(told, dict) else None
    return [choice["delta"] for choice in choices or () if isinstance(choice, dict) and isinstance(choice.get("delta"), dict)]


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
