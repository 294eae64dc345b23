"""What a stream has given its client so far, so that another replica can go on there. Pure.

Parts are kept as they pass, which costs next to nothing, and are read in one go once there are some of them: so a part costs
under a microsecond, and a stream takes the memory of its text and a few KiB. What cannot be gone on from (a tool call that has
begun, reasoning, a text of more than TEXT_CHARACTERS) is a flaw; from then on nothing is kept.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

TEXT_CHARACTERS: Final = 256 * 1024
"""Of a stream's text, above which it is not kept any more: some 64,000 tokens of English."""
_FOLD_BYTES: Final = 8 * 1024
"""Of parts that were not read yet."""

TOO_LONG: Final = "too_long"
TOOL_CALL: Final = "tool_call"
REASONING: Final = "reasoning"
UNREADABLE: Final = "unreadable"
"""Its events are not as vLLM writes them."""
UNSUITED: Final = "unsuited"
"""The request asks for something of which two replicas cannot give one half each."""


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: dict[str, msgspec.Raw] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: dict[str, msgspec.Raw] | None = None


class Heading(msgspec.Struct, frozen=True):
    """What all events of one stream have in common."""

    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""


_EVENTS: Final = msgspec.json.Decoder(list[_Event])
_HEADINGS: Final = msgspec.json.Decoder(list[Heading])
_BEGIN: Final = b"data: "
_END: Final = b"\n\n"
_DONE: Final = b"[DONE]"


class Transcript:
    """Of one stream."""

    __slots__ = (
        *("_parts", "_size", "_texts", "_waiting"),
        *("counted", "done", "ended", "finished", "flaw", "heading", "role", "stop"),
    )

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._waiting = 0
        """Bytes of parts that were not read yet."""
        self._texts: list[str] = []
        self._size = 0
        self.heading: Heading | None = None
        """None: no event was passed yet."""
        self.role = False
        """The event that says whose message it is was passed."""
        self.finished = False
        """The reason for its end was passed."""
        self.ended = False
        """It ended by a token that is not in its text."""
        self.stop = ""
        """It ended by this string, which is not in its text."""
        self.counted = False
        """Its usage, on its own at the end, was passed."""
        self.done = False
        """All of it was passed."""
        self.flaw = ""
        """Why nobody can go on from here."""

    def add(self, part: bytes) -> None:
        """Whole events, which were passed to the client."""
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting > _FOLD_BYTES:
            self._fold()

    def text(self) -> str:
        """All of it. Ask for this before anything else is looked at."""
        self._fold()
        return "".join(self._texts)

    def _fold(self) -> None:
        """Read the parts that wait."""
        raw = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        if self.flaw or not raw:
            return
        try:
            self._read(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.flaw = UNREADABLE
        if self._size > TEXT_CHARACTERS:
            self.flaw = TOO_LONG
        if self.flaw:
            self._texts.clear()

    def _read(self, raw: bytes) -> None:
        data = raw[len(_BEGIN) : -len(_END)].replace(_END + _BEGIN, b",")
        try:  # Most often there is nothing but usual events, one list then; inside of one these line feeds stand nowhere.
            events = _EVENTS.decode(b"[%b]" % data)
        except msgspec.DecodeError:
            data = b",".join(self._unusual(raw))
            events = _EVENTS.decode(b"[%b]" % data)
        if self.heading is None and events:
            self.heading = _HEADINGS.decode(b"[%b]" % data)[0]
        texts = []
        for event in events:
            for choice in event.choices:
                delta = choice.delta
                if delta is None:
                    found = choice.text
                else:
                    found = delta.content
                    if delta.role or delta.tool_calls or delta.function_call or delta.reasoning or delta.reasoning_content:
                        self._look_at(delta)
                if found:
                    texts.append(found)
                if choice.finish_reason is not None or choice.index:
                    self._look_at_end(choice)
            if event.usage and not event.choices:
                self.counted = True
        text = "".join(texts)
        self._size += len(text)
        self._texts.append(text)

    def _unusual(self, raw: bytes) -> Iterator[bytes]:
        """The data of events of all kinds: comments say nothing, and [DONE] is the last."""
        for event in raw.replace(b"\r\n", b"\n").split(_END):
            data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
            if data == _DONE:
                self.done = True
            elif data:
                yield data

    def _look_at(self, delta: _Delta) -> None:
        self.role = self.role or delta.role is not None
        if delta.tool_calls or delta.function_call:
            self.flaw = TOOL_CALL
        elif delta.reasoning or delta.reasoning_content:
            self.flaw = REASONING

    def _look_at_end(self, choice: _Choice) -> None:
        if choice.index:
            self.flaw = UNSUITED
        else:
            self.finished = True
            self.stop = choice.stop_reason if isinstance(choice.stop_reason, str) else ""
            self.ended = choice.finish_reason == "stop" and not self.stop
