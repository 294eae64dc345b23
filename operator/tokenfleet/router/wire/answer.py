"""From the bytes of a replica's answer to what its client gets: pure, and as strict as with requests.

Framing is the router's on either side. An answer without any (neither a length nor chunks, so that only the end of the
connection would end it) is refused: one could not tell a whole answer from one that was cut.
"""

from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router.wire import heads

_IN_FLIGHT: Final = contract.HEADER_IN_FLIGHT.encode()
_DRAINING: Final = contract.HEADER_DRAINING.encode()
_ONCE: Final = {
    b"connection": heads.TEXT,
    b"content-length": heads.NUMBER,
    b"content-type": heads.TEXT,
    b"retry-after": heads.TEXT,
    b"transfer-encoding": rb"(?i:chunked)",
    _DRAINING: heads.TEXT,
    _IN_FLIGHT: heads.NUMBER,
}
_GRAMMAR: Final = heads.grammar(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: %b)?+" % heads.TEXT, _ONCE)
_GATEWAY: Final = frozenset((502, 503, 504))
_drop: Final = heads.dropper(
    (
        *(b"connection", b"content-length", b"transfer-encoding", contract.HEADER_REQUEST_ID.encode()),
        *(b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"upgrade"),
    ),
    prefixes=(b"x-tokenfleet-",),
)


class InvalidAnswer(Exception):
    """A replica's answer is not HTTP that can be passed on; says why."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer's head, understood."""

    status: int
    length: int | None
    """Of the body; None: it comes in chunks."""
    keep_alive: bool
    draining: bool
    """The replica is going away and has not begun this request."""
    event_stream: bool
    retry_after: bool
    """It says when to try again."""
    in_flight: int | None
    """What the replica itself counts, this request included."""
    fields: bytes
    """Header lines for the client, Content-Type among them, framing not."""

    @property
    def fault(self) -> bool:
        """Only something broken answers like this, since an engine is nobody's gateway; but a 503 that says it is draining, or
        when to try again, is no fault: that engine is full."""
        return self.status in _GATEWAY and not self.draining and not self.retry_after


def parse(head: bytes) -> Answer:
    """A whole head, its empty line included."""
    match = _GRAMMAR.fullmatch(head)
    if match is None:
        name = heads.repeated(head, _ONCE)
        raise InvalidAnswer(f"it has the header {name} twice" if name else "its head is not HTTP/1.1 with a plain framing")
    minor, code, lines, options, length, kind, retry_after, coding, draining, in_flight = match.groups()
    status = int(code)
    return Answer(
        status,
        int(length) if code == b"200" and length is not None and coding is None else _length(status, length, coding),
        minor == b"1" and (options is None or b"close" not in options.lower()),
        draining is not None and status == 503,
        kind is not None and kind.lower().startswith(b"text/event-stream"),
        retry_after is not None,
        None if in_flight is None else int(in_flight),
        _drop(lines)[1:],
    )


def _length(status: int, length: bytes | None, coding: bytes | None) -> int | None:
    if status < 200 or status in (204, 304):
        return 0
    if length is None:
        if coding is not None:
            return None
        raise InvalidAnswer("neither Content-Length nor chunks say where it ends")
    if coding is not None:
        raise InvalidAnswer("its framing is ambiguous")
    return int(length)
