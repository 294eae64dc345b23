"""Makes the events of the replica that goes on into those of the stream that was begun. Pure.

Their id, time and model become those of the first replica; whose message it is, is not said twice; what was passed before
does not come again; and their usage counts what was sent before to the answer, not to the prompt. All else keeps its bytes.
"""

from typing import Final

import msgspec

from tokenfleet.router.continuing.transcript import Heading
from tokenfleet.router.usage import Usage

_OPEN: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHOICES: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_BEGIN: Final = b"data: "
_END: Final = b"\n\n"
_NULL: Final = b"null"
_EMPTY: Final = (b"null", b'""')
_OTHERS: Final = frozenset(("tool_calls", "reasoning", "reasoning_content"))
"""What a delta may say beside its text."""


class Splice:
    """Of one stream that goes on."""

    __slots__ = ("_heading", "_repeated", "_role", "_sent", "_settled")

    def __init__(self, heading: Heading | None, *, role: bool, repeated: str, sent: int) -> None:
        """role: whose message it is was said. repeated: text that may come again. sent: tokens of the text before."""
        fields = msgspec.structs.asdict(heading) if heading is not None else {}
        self._heading = {name: _raw(value) for name, value in fields.items() if value}
        self._role = role
        self._repeated = repeated
        self._sent = sent
        self._settled = not role and not repeated
        """From now on what comes is new."""

    def feed(self, payload: bytes) -> bytes:
        """Whole events, as they are to be passed on."""
        return b"".join([self._event(event) for event in payload.split(_END) if event])

    def usage(self, found: Usage) -> Usage:
        """Of the whole stream. found: what the replica that goes on has used."""
        return Usage(found.prompt - self._sent, found.completion + self._sent)

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(_BEGIN + b"{"):
            return event + _END
        try:
            fields = _OPEN.decode(event[len(_BEGIN) :])
            if not self._settled and "choices" in fields and not self._settle(fields):
                return b""
            if bytes(fields.get("usage", _NULL)) != _NULL:
                fields["usage"] = self._counted(fields["usage"])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return event + _END
        fields |= {name: value for name, value in self._heading.items() if name in fields}
        return _BEGIN + msgspec.json.encode(fields) + _END

    def _settle(self, fields: dict[str, msgspec.Raw]) -> bool:
        """Take out what was passed before. Whether anything is left."""
        choices = _CHOICES.decode(fields["choices"])
        if not choices:
            return True
        choice = choices[0]
        delta = _OPEN.decode(choice["delta"]) if "delta" in choice else choice
        name = "content" if "delta" in choice else "text"
        said = self._role and delta.pop("role", None) is not None
        if bytes(delta.get(name, _NULL)) not in _EMPTY:
            text = msgspec.json.decode(delta[name], type=str)
            again = _alike(text, self._repeated)
            self._repeated = self._repeated[again:] if again == len(text) else ""
            self._settled = not self._repeated
            delta[name] = _raw(text[again:])
            said = said or again > 0
        if delta is not choice:
            choice["delta"] = _raw(delta)
        fields["choices"] = _raw(choices)
        ends = bytes(choice.get("finish_reason", _NULL)) != _NULL
        return ends or not said or bytes(delta.get(name, _NULL)) not in _EMPTY or not _OTHERS.isdisjoint(delta)

    def _counted(self, usage: msgspec.Raw) -> msgspec.Raw:
        numbers = _OPEN.decode(usage)
        for name, more in (("prompt_tokens", -self._sent), ("completion_tokens", self._sent)):
            if name in numbers:
                numbers[name] = _raw(msgspec.json.decode(numbers[name], type=int) + more)
        return _raw(numbers)


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
