"""What a sequence's tokens become for the client: text, cut at a stop string, and the count of tokens so far."""

from dataclasses import dataclass, field

from tokenfleet_engine.simulation.sequences import Finish, Sequence
from tokenfleet_engine.simulation.text import END


@dataclass(frozen=True, slots=True)
class Delta:
    """One token's worth of an answer."""

    index: int
    text: str
    piece: bytes
    tokens: int
    """Of this choice, with this one."""
    finish: Finish | None = None
    stop: str | None = None
    """The string that ended it."""


@dataclass(slots=True)
class Choice:
    """With stop strings, the end of the text is held back for as long as it may be the beginning of one."""

    index: int
    sequence: Sequence
    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    _held: str = field(default="", init=False)
    _seen: str = field(default="", init=False)
    """The end of the text that was given out, in case that a stop string begins there."""

    def advance(self) -> Delta:
        sequence = self.sequence
        piece = sequence.advance()
        text = "" if piece == END else piece.decode()
        stop = None
        if self.stops:
            text, stop = self._watch(text)
        return Delta(self.index, text, piece, sequence.generated, sequence.finish, stop)

    def _watch(self, text: str) -> tuple[str, str | None]:
        longest = max(map(len, self.stops))
        window = self._seen + self._held + text
        if self.sequence.generated > self.sequence.least and (found := self._find(window)):
            start, stop = found
            self.sequence.finish = Finish.STOP
            end = start + len(stop) if self.keep_stop else start
            return window[len(self._seen) : end], stop
        out = window[len(self._seen) :]
        held = 0 if self.keep_stop or self.sequence.finish else min(len(out), longest - 1)
        given = out[: len(out) - held]
        self._held = out[len(out) - held :]
        self._seen = (self._seen + given)[-(longest - 1) :] if longest > 1 else ""
        return given, None

    def _find(self, window: str) -> tuple[int, str] | None:
        found = [(start, stop) for stop in self.stops if (start := window.find(stop)) >= 0]
        return min(found, default=None)
