"""From the bytes of a replica's answer to what its client gets: pure, and as strict as with requests.

Framing is the router's on either side. An answer without any (neither a length nor chunks, so that only the end of the
connection would end it) is refused: one could not tell a whole answer from one that was cut.
"""

import re
from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router import heads

_READ: Final = frozenset((b"connection", b"content-length", b"content-type", b"transfer-encoding"))
_DRAINING: Final = contract.HEADER_DRAINING.encode()
_DROPPED: Final = frozenset(
    (
        *(b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"upgrade"),
        contract.HEADER_REQUEST_ID.encode(),
    )
)
_INTERNAL: Final = b"x-tokenfleet-"
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")


class InvalidAnswer(Exception):
    """A replica's answer is not HTTP that can be passed on; says why."""


class Answer(msgspec.Struct, frozen=True):
    """An answer's head, understood."""

    status: int
    length: int | None
    """Of the body; None: it comes in chunks."""
    keep_alive: bool
    draining: bool
    """The replica is going away and has not begun this request."""
    event_stream: bool
    fields: bytes
    """Header lines for the client, Content-Type among them, framing not."""


def parse(head: bytes) -> Answer:
    """A whole head, its empty line included."""
    match = heads.ANSWER.fullmatch(head)
    if match is None:
        raise InvalidAnswer("its head is not HTTP/1.1")
    minor, code, lines = match.groups()
    read: dict[bytes, bytes] = {}
    kept = []
    draining = False
    for line, spelled, value in heads.FIELD.findall(lines):
        name = spelled.lower()
        if name in _READ:
            if name in read:
                raise InvalidAnswer(f"it has the header {name.decode()} twice")
            read[name] = value.rstrip(b" \t").lower()
            if name == b"content-type":
                kept.append(line)
        elif name.startswith(_INTERNAL):
            draining = draining or name == _DRAINING
        elif name not in _DROPPED:
            kept.append(line)
    status = int(code)
    return Answer(
        status=status,
        length=_length(status, read),
        keep_alive=minor == b"1" and b"close" not in read.get(b"connection", b""),
        draining=draining and status == 503,
        event_stream=read.get(b"content-type", b"").startswith(b"text/event-stream"),
        fields=b"".join(kept),
    )


def _length(status: int, read: dict[bytes, bytes]) -> int | None:
    length, coding = read.get(b"content-length"), read.get(b"transfer-encoding")
    if status < 200 or status in (204, 304):
        return 0
    if coding is not None:
        if length is not None or coding != b"chunked":
            raise InvalidAnswer("its framing is ambiguous")
        return None
    if length is None:
        raise InvalidAnswer("neither Content-Length nor chunks say where it ends")
    if not _LENGTH.fullmatch(length):
        raise InvalidAnswer("its Content-Length is not a number")
    return int(length)
