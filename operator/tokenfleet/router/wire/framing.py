"""Where a body ends: by its length, or chunk by chunk as llhttp reads it. No I/O.

Both readers take bytes as they come and give back payload; both sides of the router use them. Bytes past the end are not
lost: `LengthBody.rest` holds them. llhttp does not say where it stopped, so `ChunkedBody` only says that there were some
(`excess`), and the connection is not used again.
"""

from typing import Final

import httptools

_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


class FramingError(Exception):
    """The bytes are not a chunked body."""


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body; payload must not be empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class LengthBody:
    """A body of so many bytes."""

    __slots__ = ("complete", "excess", "left", "rest")

    def __init__(self, length: int) -> None:
        self.left = length
        self.complete = length == 0
        self.rest = b""
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        """Payload in data. Sets `complete` with its last byte, and `rest` to what came after it."""
        size = len(data)
        if size > self.left:
            data, self.rest = data[: self.left], data[self.left :]
            self.excess = True
            size = self.left
        self.left -= size
        self.complete = self.left == 0
        return data


class _Callbacks:
    """What llhttp calls. Apart from ChunkedBody, so that no cycle of references keeps either alive."""

    __slots__ = ("complete", "excess", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.complete = False
        self.excess = False

    def on_message_begin(self) -> None:
        self.excess = self.complete

    def on_body(self, part: bytes) -> None:
        if not self.complete:
            self.parts.append(part)

    def on_message_complete(self) -> None:
        self.complete = True


class ChunkedBody:
    """A chunked body. Extensions and trailers are read and dropped."""

    __slots__ = ("_callbacks", "_parser", "complete", "excess", "rest")

    def __init__(self) -> None:
        self.complete = False
        self.excess = False
        self.rest = b""
        self._callbacks = _Callbacks()
        self._parser = httptools.HttpRequestParser(self._callbacks)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Payload of the chunks, or parts of chunks, in data."""
        callbacks = self._callbacks
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not callbacks.complete:
                raise FramingError(str(error)) from error
            callbacks.excess = True
        self.complete, self.excess = callbacks.complete, callbacks.excess
        parts = callbacks.parts
        if len(parts) == 1:
            return parts.pop()
        payload = b"".join(parts)
        parts.clear()
        return payload


Body = LengthBody | ChunkedBody
