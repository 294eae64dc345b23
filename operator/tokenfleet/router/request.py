"""From the bytes of a request to a decision: what it asks for and what a replica will be sent, or Rejected. Pure.

A replica's request is built anew: our own request line, Host, Content-Length and request id, and those of the client's
header lines that are nobody's business but the engine's. Clients thus choose neither the framing, nor credentials, nor
internal headers. Of the body only what the router needs is decoded; the bytes go on as they came.
"""

import re
from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router import heads, routes
from tokenfleet.router.limits import Limits
from tokenfleet.router.rejections import (
    BODY_TOO_LARGE,
    ENCODED_BODY,
    EXPECTATION_FAILED,
    HEAD_TOO_LARGE,
    INVALID_BODY,
    MALFORMED,
    MODEL_MISSING,
    TARGET_TOO_LONG,
    VERSION_UNSUPPORTED,
    Rejected,
)
from tokenfleet.router.routes import Route

_READ: Final = frozenset((b"connection", b"content-encoding", b"content-length", b"expect", b"host", b"transfer-encoding"))
_DROPPED: Final = frozenset(
    (
        # Hop by hop (RFC 9110, 7.6.1) and credentials of the router's own clients.
        *(b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"upgrade"),
        *(b"api-key", b"authorization", b"x-api-key"),
        # Ours to say. No accept-encoding: an error event must fit into a stream that is under way.
        *(b"accept-encoding", b"forwarded", b"x-real-ip", contract.HEADER_REQUEST_ID.encode()),
    )
)
_DROPPED_PREFIXES: Final = (b"x-forwarded-", b"x-tokenfleet-")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=\-]+(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.%]+\](?::[0-9]{0,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_MAX_FIELDS: Final = 100
_MAX_TARGET: Final = 8 * 1024


class Request(msgspec.Struct, frozen=True):
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


class Fields(msgspec.Struct, frozen=True):
    """What the router reads of a body."""

    model: str
    stream: bool | None = None


_FIELDS: Final = msgspec.json.Decoder(Fields)


def parse(head: bytes, limits: Limits) -> Request:
    """A whole head, its empty line included."""
    match = heads.REQUEST.fullmatch(head)
    if match is None:
        if heads.unsupported_version(head):
            raise Rejected(VERSION_UNSUPPORTED, "This router speaks HTTP/1.1 (and answers HTTP/1.0).")
        raise Rejected(MALFORMED, heads.explain(head.removesuffix(heads.END)))
    method, target, minor, lines = match.groups()
    if len(target) > _MAX_TARGET:
        raise Rejected(TARGET_TOO_LONG, f"The request's target is longer than {_MAX_TARGET} bytes.")
    found = heads.FIELD.findall(lines)
    if len(found) > _MAX_FIELDS:
        raise Rejected(HEAD_TOO_LARGE, f"The request has more than {_MAX_FIELDS} header lines.")
    read, kept = _sort(found)
    http10 = minor == b"0"
    _check_host(read.get(b"host"), required=not http10)
    length, chunked = _framing(read, http10=http10)
    options = read.get(b"connection", b"").lower()
    if options not in (b"", b"keep-alive", b"close"):
        kept, options = _obey_connection(kept, options)
    expect = read.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise Rejected(EXPECTATION_FAILED, "The only expectation that is met here is 100-continue.")
    route = routes.find(method, target)
    if not route.relayed and (chunked or length):
        raise Rejected(MALFORMED, "A GET has no body here.")
    if length > limits.body_bytes:
        raise too_large(limits)
    if read.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Rejected(ENCODED_BODY, "Send the body without Content-Encoding; the router has to read it.")
    return Request(
        route=route,
        http10=http10,
        keep_alive=not http10 and options != b"close",
        length=length,
        chunked=chunked,
        expects_continue=expect is not None and not http10,
        fields=b"".join(kept),
    )


def _sort(found: list[tuple[bytes, bytes, bytes]]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Fields that the router reads, by name, and lines that a replica gets."""
    read: dict[bytes, bytes] = {}
    kept: list[bytes] = []
    for line, spelled, value in found:
        name = spelled.lower()
        if name in _READ:
            if name in read:
                if name != b"connection":
                    raise Rejected(MALFORMED, f"The header {name.decode()} stands twice in this request.")
                value = read[name] + b"," + value
            read[name] = value.rstrip(b" \t")
        elif name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES):
            kept.append(line)
    return read, kept


def _check_host(host: bytes | None, *, required: bool) -> None:
    if host is None:
        if required:
            raise Rejected(MALFORMED, "An HTTP/1.1 request has a Host header; this one has none.")
    elif not _HOST.fullmatch(host):
        raise Rejected(MALFORMED, "The Host header is not a host, or a host and a port.")


def _framing(read: dict[bytes, bytes], *, http10: bool) -> tuple[int, bool]:
    """(length, chunked) of the body."""
    length, coding = read.get(b"content-length"), read.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise Rejected(MALFORMED, "Content-Length and Transfer-Encoding exclude each other.")
        if http10 or coding.lower() != b"chunked":
            raise Rejected(MALFORMED, "The only Transfer-Encoding that is taken is chunked, in HTTP/1.1.")
        return 0, True
    if length is None:
        return 0, False
    if not _LENGTH.fullmatch(length):
        raise Rejected(MALFORMED, "Content-Length is not one plain number.")
    return int(length), False


def _obey_connection(kept: list[bytes], options: bytes) -> tuple[list[bytes], bytes]:
    """Drop the headers that Connection names; say whether it asks to close."""
    names = {option.strip(b" \t") for option in options.split(b",")}
    kept = [line for line in kept if line.partition(b":")[0].lower() not in names]
    return kept, b"close" if b"close" in names else b""


def read_body(body: bytes) -> Fields:
    """What the router needs to know of a request's body."""
    if not body:
        raise Rejected(INVALID_BODY, "The request has no body; send a JSON object.")
    try:
        fields = _FIELDS.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(INVALID_BODY, f"The body is not JSON that can be read: {error}.") from None
    if not fields.model:
        raise Rejected(MODEL_MISSING, "`model` is empty; name one of GET /v1/models.", param="model")
    return fields


def _invalid(message: str) -> Rejected:
    if "missing required field `model`" in message:
        return Rejected(MODEL_MISSING, "The body has no `model`; name one of GET /v1/models.", param="model")
    if message.endswith("`$.model`"):
        return Rejected(MODEL_MISSING, f"`model` is not a string: {message}.", param="model")
    param = "stream" if message.endswith("`$.stream`") else None
    return Rejected(INVALID_BODY, f"The body is not what this API takes: {message}.", param=param)


def too_large(limits: Limits) -> Rejected:
    """The refusal of a body that is, or turns out to be, too large."""
    return Rejected(BODY_TOO_LARGE, f"The body is larger than {limits.body_bytes} bytes.")
