"""Every way in which the router itself says no, in one table, and the OpenAI-shaped answer that says it.

`Rejected` is the one exception of the request's path: raised by pure code (request.py, replicas.py), turned into bytes by
the connection. A `Kind` is a decision with its status, OpenAI type and Retry-After; its `reason` is a metric's label, so the
table also bounds that label, and the error's `code` where OpenAI has no code of its own for it. 429 is the caller's own limit,
503 our capacity; both are worth trying again.
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
    code: str = ""
    """Of the error, where it is not the reason."""


MALFORMED = Kind("malformed_request", 400)
INVALID_BODY = Kind("invalid_body", 400)
MODEL_MISSING = Kind("model_missing", 400)
OUT_OF_BOUNDS = Kind("out_of_bounds", 400)
STREAM_UNSUPPORTED = Kind("stream_unsupported", 400)
INVALID_KEY = Kind("invalid_api_key", 401)
KEY_EXPIRED = Kind("api_key_expired", 401)
MODEL_FORBIDDEN = Kind("model_not_allowed", 403)
UNKNOWN_PATH = Kind("unknown_path", 404)
MODEL_NOT_FOUND = Kind("model_not_found", 404)
REQUEST_NOT_FOUND = Kind("request_not_found", 404)
METHOD_NOT_ALLOWED = Kind("method_not_allowed", 405)
TOO_SLOW = Kind("request_timeout", 408)
REQUEST_ENDED = Kind("request_ended", 409)
BODY_TOO_LARGE = Kind("body_too_large", 413)
TARGET_TOO_LONG = Kind("target_too_long", 414)
ENCODED_BODY = Kind("content_encoding_unsupported", 415)
EXPECTATION_FAILED = Kind("expectation_failed", 417)
IDEMPOTENCY_KEY_REUSED = Kind("idempotency_key_reused", 422)
REQUESTS_LIMITED = Kind("requests_limited", 429, "requests", code="rate_limit_exceeded")
TOKENS_LIMITED = Kind("tokens_limited", 429, "tokens", code="rate_limit_exceeded")
HEAD_TOO_LARGE = Kind("head_too_large", 431)
VERSION_UNSUPPORTED = Kind("http_version_unsupported", 505)

UPSTREAM_LOST = Kind("upstream_lost", 502, _OURS)
UPSTREAM_INVALID = Kind("upstream_invalid", 502, _OURS)
NOT_SYNCED = Kind("router_starting", 503, _OURS, retry_after=2)
NO_REPLICAS = Kind("no_replicas", 503, _OURS, retry_after=10)
NONE_READY = Kind("no_ready_replica", 503, _OURS, retry_after=5)
ALL_DRAINING = Kind("all_replicas_draining", 503, _OURS, retry_after=5)
KEYS_UNAVAILABLE = Kind("keys_unavailable", 503, _OURS, retry_after=5)
SHED = Kind("overloaded", 503, _OURS, retry_after=2)
QUEUE_FULL = Kind("queue_full", 503, _OURS, retry_after=5)
QUEUE_TIMEOUT = Kind("queue_timeout", 503, _OURS, retry_after=5)
LEAVING = Kind("router_leaving", 503, _OURS, retry_after=1)
TOO_MANY_CONNECTIONS = Kind("too_many_connections", 503, _OURS, retry_after=1)
BODIES_FULL = Kind("router_overloaded", 503, _OURS, retry_after=1)
UNREACHABLE = Kind("replicas_unreachable", 503, _OURS, retry_after=2)
ASYNC_QUEUE_FULL = Kind("async_queue_full", 503, _OURS, retry_after=30)
ASYNC_QUEUE_AWAY = Kind("queue_unavailable", 503, _OURS, retry_after=5)
UPSTREAM_SILENT = Kind("upstream_timeout", 504, _OURS)


class Rejected(TokenfleetError):
    """The router answers this request itself, with an error. `message` is for the client: what is wrong, what to do."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        param: str | None = None,
        allow: str | None = None,
        retry_after: int | None = None,
        lines: bytes = b"",
    ) -> None:
        """retry_after: seconds, where they are known better than the kind knows them. lines: more header lines."""
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.allow = allow
        self.retry_after = kind.retry_after if retry_after is None else retry_after
        self.lines = lines

    def carrying(self, lines: bytes) -> "Rejected":
        """The same refusal with these header lines, unless it has its own. Another object: one may be given to many."""
        if self.lines or not lines:
            return self
        return Rejected(self.kind, self.message, param=self.param, allow=self.allow, retry_after=self.retry_after, lines=lines)

    def body(self) -> bytes:
        """The error as the OpenAI API writes it."""
        code = self.kind.code or self.kind.reason
        error = {"message": self.message, "type": self.kind.type, "param": self.param, "code": code}
        return msgspec.json.encode({"error": error})

    def fields(self) -> bytes:
        """Header lines that belong to this refusal alone."""
        lines = self.lines
        if self.retry_after is not None:
            lines += b"retry-after: %d\r\n" % self.retry_after
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
