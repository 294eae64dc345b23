"""Every way in which the router itself says no, in one table, and the OpenAI-shaped answer that says it.

`Rejected` is the one exception of the request's path: raised by pure code (request.py, replicas.py), turned into bytes by
the connection. A `Kind` is a decision with its status, OpenAI type and Retry-After; its `reason` is the error's `code` and
a metric's label, so the table also bounds that label.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from tokenfleet.errors import TokenfleetError

_CALLER: Final = "invalid_request_error"
_OURS: Final = "server_error"


class Kind(msgspec.Struct, frozen=True):
    """One reason for a refusal."""

    reason: str
    status: int
    type: str = _CALLER
    retry_after: int | None = None
    """Seconds; where set, the answer carries Retry-After."""


MALFORMED = Kind("malformed_request", 400)
INVALID_BODY = Kind("invalid_body", 400)
MODEL_MISSING = Kind("model_missing", 400)
UNKNOWN_PATH = Kind("unknown_path", 404)
MODEL_NOT_FOUND = Kind("model_not_found", 404)
METHOD_NOT_ALLOWED = Kind("method_not_allowed", 405)
TOO_SLOW = Kind("request_timeout", 408)
BODY_TOO_LARGE = Kind("body_too_large", 413)
TARGET_TOO_LONG = Kind("target_too_long", 414)
ENCODED_BODY = Kind("content_encoding_unsupported", 415)
EXPECTATION_FAILED = Kind("expectation_failed", 417)
HEAD_TOO_LARGE = Kind("head_too_large", 431)
VERSION_UNSUPPORTED = Kind("http_version_unsupported", 505)

UPSTREAM_LOST = Kind("upstream_lost", 502, _OURS)
UPSTREAM_INVALID = Kind("upstream_invalid", 502, _OURS)
NOT_SYNCED = Kind("router_starting", 503, _OURS, retry_after=2)
NO_REPLICAS = Kind("no_replicas", 503, _OURS, retry_after=10)
NONE_READY = Kind("no_ready_replica", 503, _OURS, retry_after=5)
ALL_DRAINING = Kind("all_replicas_draining", 503, _OURS, retry_after=5)
BODIES_FULL = Kind("router_overloaded", 503, _OURS, retry_after=1)
UNREACHABLE = Kind("replicas_unreachable", 503, _OURS, retry_after=2)
UPSTREAM_SILENT = Kind("upstream_timeout", 504, _OURS)


class Rejected(TokenfleetError):
    """The router answers this request itself, with an error. `message` is for the client: what is wrong, what to do."""

    def __init__(self, kind: Kind, message: str, *, param: str | None = None, allow: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.allow = allow

    def body(self) -> bytes:
        """The error as the OpenAI API writes it."""
        error = {"message": self.message, "type": self.kind.type, "param": self.param, "code": self.kind.reason}
        return msgspec.json.encode({"error": error})

    def fields(self) -> bytes:
        """Header lines that belong to this refusal alone."""
        lines = b""
        if self.kind.retry_after is not None:
            lines += b"retry-after: %d\r\n" % self.kind.retry_after
        if self.allow is not None:
            lines += b"allow: %b\r\n" % self.allow.encode()
        return lines


_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


def status_line(code: int) -> bytes:
    """Of an answer, whatever its code."""
    return _STATUS_LINES.get(code) or b"HTTP/1.1 %d \r\n" % code


def render(code: int, body: bytes, *, request_id: bytes, fields: bytes = b"", close: bool) -> bytes:
    """A whole answer of the router's own."""
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b\r\n%b" % (
        status_line(code),
        len(body),
        request_id,
        fields,
        b"connection: close\r\n" if close else b"",
        body,
    )
