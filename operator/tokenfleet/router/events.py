"""An event stream on its way to the client: whole events at a time, so that whatever is added stands on a line of its own.

Three things are done to it. The usage that the router asked for, and the client did not, is read and taken out. After an error
event no [DONE] passes: an engine that dies says both, and a client must not take a cut answer for a whole one. And a part of
an event waits for its rest. All else passes as it came; a payload with nothing to do costs a few comparisons. Where another
replica may go on with the stream, the error event of an engine that fails is withheld, and what comes after it.
"""

from typing import Final

import msgspec

from tokenfleet.router.usage import NAME, Usage, find_usage

_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_ERROR: Final = b'"error"'
_DONE: Final = b"data: [DONE]"
_NO_CHOICES: Final = b'"choices":[]'
_HELD: Final = 256 * 1024
"""Of one event's part; a longer one passes in parts."""


_FAULTS: Final = 500


class _Error(msgspec.Struct):
    code: int | str | None = None


class _ErrorEvent(msgspec.Struct):
    error: _Error


class EventStream:
    """Of one answer."""

    __slots__ = ("_part", "_quiet", "_withholds", "error", "failed", "usage")

    def __init__(self, *, quiet: bool, withholds: bool = False) -> None:
        """quiet: the client has not asked for the usage. withholds: the error event of an engine that fails."""
        self._quiet = quiet
        self._part = b""
        self.usage: Usage | None = None
        self.failed = False
        """The engine has reported an error in the middle."""
        self._withholds = withholds
        self.error = b""
        """The event that was withheld."""

    def feed(self, payload: bytes) -> bytes:
        """What may be passed on after this payload."""
        if self._part:
            payload = self._part + payload
            self._part = b""
        if not payload.endswith(_ENDS):
            payload = self._align(payload)
        if payload.find(NAME) >= 0 or payload.find(_ERROR) >= 0 or self.failed:  # `in` takes half as long again
            return b"".join([event for event in _split(payload) if self._passes(event)])
        return payload

    def end(self) -> bytes:
        """The rest, once the stream has ended."""
        part, self._part = self._part, b""
        return part

    def _align(self, payload: bytes) -> bytes:
        end = max(payload.rfind(mark) + len(mark) if mark in payload else 0 for mark in _ENDS)
        if not end and len(payload) > _HELD:
            return payload
        self._part = payload[end:]
        return payload[:end]

    def _passes(self, event: bytes) -> bool:
        if event.startswith(b"data:") and event[5:].lstrip().startswith(b'{"error"'):
            self.failed = True
            if self._withholds and _fault(event):
                self.error = event
                return False
        elif self.error or (self.failed and event.startswith(_DONE)):
            return False
        elif (found := find_usage(event)) is not None:
            self.usage = found
            return not (self._quiet and _NO_CHOICES in event)
        return True


def _fault(event: bytes) -> bool:
    """An error of the engine's, and not of the request's."""
    try:
        code = msgspec.json.decode(event[5:], type=_ErrorEvent).error.code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return not isinstance(code, int) or code >= _FAULTS


def _split(payload: bytes) -> list[bytes]:
    """Events, each with its end."""
    mark = _ENDS[0] if _ENDS[0] in payload else _ENDS[1]
    *events, rest = payload.split(mark)
    return [*(event + mark for event in events), rest] if rest else [event + mark for event in events]
