"""From the bytes of a request to a decision: what it asks for and what a replica will be sent, or Rejected. Pure.

A replica's request is built anew: our own request line, Host, Content-Length and request id, and those of the client's
header lines that are nobody's business but the engine's. Clients thus choose neither the framing, nor credentials, nor
internal headers. Of the body only what the router needs is decoded; the bytes go on as they came.
"""

from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router import routes
from tokenfleet.router.rejections import (
    BODY_TOO_LARGE,
    ENCODED_BODY,
    EXPECTATION_FAILED,
    HEAD_TOO_LARGE,
    MALFORMED,
    TARGET_TOO_LONG,
    VERSION_UNSUPPORTED,
    Rejected,
)
from tokenfleet.router.routes import Route
from tokenfleet.router.wire import heads
from tokenfleet.router.wire.limits import Limits

_ONCE: Final = {
    b"api-key": heads.TEXT,
    b"authorization": heads.TEXT,
    b"content-encoding": heads.TEXT,
    b"content-length": heads.NUMBER,
    b"expect": heads.TEXT,
    b"host": heads.HOST,
    b"transfer-encoding": heads.TEXT,
    b"x-api-key": heads.TEXT,
    contract.HEADER_CONTINUE.encode(): heads.TEXT,
}
_GRAMMAR: Final = heads.grammar(heads.REQUEST_LINE, _ONCE, often=(b"connection", b"traceparent"), most=heads.MAX_FIELDS)
_drop: Final = heads.dropper(
    (
        # Read here, or credentials of the router's own clients.
        *_ONCE,
        # Hop by hop (RFC 9110, 7.6.1).
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"upgrade"),
        # Ours to say. No accept-encoding: an error event must fit into a stream that is under way.
        *(b"accept-encoding", b"forwarded", b"x-real-ip", contract.HEADER_REQUEST_ID.encode()),
    ),
    prefixes=(b"x-forwarded-", b"x-tokenfleet-"),
)
_MAX_TARGET: Final = 8 * 1024


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request's head, understood."""

    route: Route
    http10: bool
    keep_alive: bool
    length: int
    """Of the body; meaningless where chunked."""
    chunked: bool
    expects_continue: bool
    fields: bytes
    """Header lines for the replica, in the client's order and spelling."""
    credential: bytes | None = None
    """The token of `Authorization: Bearer` or of an api-key header; empty where Authorization is anything else."""
    traceparent: bytes | None = None
    """It stands in `fields` too."""
    continues: bool = True
    """Another replica may go on with its stream."""

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header line of this name (in lower case) among `fields`."""
        at = (b"\n" + self.fields).lower().find(b"\n" + name + b":")
        if at < 0:
            return None
        start = at + len(name) + 1
        return self.fields[start : self.fields.index(b"\r", start)].strip(b" \t")


def parse(head: bytes, limits: Limits) -> Request:
    """A whole head, its empty line included."""
    match = _GRAMMAR.fullmatch(head)
    if match is None:
        raise _unreadable(head)
    (
        method, target, minor, lines,
        api_key, authorization, options_2, options, encoding, length, expect, host, trace_2, trace, coding, x_api_key, goes_on,
    ) = match.groups()  # fmt: skip
    if len(target) > _MAX_TARGET:
        raise Rejected(TARGET_TOO_LONG, f"The request's target is longer than {_MAX_TARGET} bytes.")
    http10 = minor == b"0"
    if host is None and not http10:
        raise Rejected(MALFORMED, "An HTTP/1.1 request has a Host header; this one has none.")
    if coding is not None:
        _check_coding(coding, length=length, http10=http10)
    size = 0 if length is None else int(length)
    fields = _drop(lines)[1:]
    keep_alive = not http10
    if options is not None and (options != b"keep-alive" or options_2 is not None):
        fields, closes = _obey_connection(fields, lines)
        keep_alive = keep_alive and not closes
    if expect is not None and expect.rstrip(b" \t").lower() != b"100-continue":
        raise Rejected(EXPECTATION_FAILED, "The only expectation that is met here is 100-continue.")
    route = routes.find(method, target)
    if method != b"POST" and (size or coding is not None):
        raise Rejected(MALFORMED, f"A {method.decode()} has no body here.")
    if size > limits.body_bytes:
        raise too_large(limits)
    if encoding is not None and encoding.rstrip(b" \t").lower() != b"identity":
        raise Rejected(ENCODED_BODY, "Send the body without Content-Encoding; the router has to read it.")
    return Request(
        route,
        http10,
        keep_alive,
        size,
        coding is not None,
        expect is not None and not http10,
        fields,
        _bearer(authorization) if api_key is None and x_api_key is None else _only(authorization, api_key, x_api_key),
        trace if trace_2 is None else None,
        goes_on is None or goes_on.rstrip(b" \t").lower() != b"off",
    )


def _unreadable(head: bytes) -> Rejected:
    """The refusal of a head that does not match."""
    if heads.unsupported_version(head):
        return Rejected(VERSION_UNSUPPORTED, "This router speaks HTTP/1.1 (and answers HTTP/1.0).")
    if head.count(b"\n") - 2 > heads.MAX_FIELDS:
        return Rejected(HEAD_TOO_LARGE, f"The request has more than {heads.MAX_FIELDS} header lines.")
    if not heads.REQUEST.fullmatch(head):
        return Rejected(MALFORMED, heads.explain(head.removesuffix(heads.END)))
    if (name := heads.repeated(head, _ONCE)) is not None:
        return Rejected(MALFORMED, f"The header {name} stands twice in this request.")
    return Rejected(MALFORMED, "Host is not a host, or a host and a port; or Content-Length is not one plain number.")


def _check_coding(coding: bytes, *, length: bytes | None, http10: bool) -> None:
    if length is not None:
        raise Rejected(MALFORMED, "Content-Length and Transfer-Encoding exclude each other.")
    if http10 or coding.rstrip(b" \t").lower() != b"chunked":
        raise Rejected(MALFORMED, "The only Transfer-Encoding that is taken is chunked, in HTTP/1.1.")


def _obey_connection(fields: bytes, lines: bytes) -> tuple[bytes, bool]:
    """Drop the fields that Connection names; say whether it asks to close."""
    pairs = [line.partition(b":") for line in lines.lower().splitlines()]
    options = b",".join(value for name, _, value in pairs if name == b"connection").split(b",")
    names = {option.strip(b" \t") for option in options}
    kept = (line for line in fields.splitlines(keepends=True) if line.partition(b":")[0].lower() not in names)
    return b"".join(kept), b"close" in names


def _bearer(authorization: bytes | None) -> bytes | None:
    """The token; empty where there is none in it."""
    if authorization is None:
        return None
    return authorization[7:].strip(b" \t") if authorization[:7].lower() == b"bearer " else b""


def _only(authorization: bytes | None, *api_keys: bytes | None) -> bytes | None:
    """The one credential of a request; two that differ leave open whose request it is."""
    found = {api_key.rstrip(b" \t") for api_key in api_keys if api_key is not None}
    if authorization is not None:
        found.add(_bearer(authorization) or b"")
    if len(found) > 1:
        raise Rejected(MALFORMED, "This request has two different credentials; send one, as Authorization: Bearer.")
    return found.pop()


def too_large(limits: Limits) -> Rejected:
    """The refusal of a body that is, or turns out to be, too large."""
    return Rejected(BODY_TOO_LARGE, f"The body is larger than {limits.body_bytes} bytes.")
