"""Heads and bodies as pure code sees them: what the tables of test_refusals.py do not show from outside."""

import pytest

from tokenfleet.router import answer
from tokenfleet.router.limits import Limits
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.request import Request, parse, read_body

_LIMITS = Limits()


def head(*lines: str, line: str = "POST /v1/completions HTTP/1.1") -> bytes:
    return "\r\n".join((line, "Host: x", *lines, "", "")).encode("latin-1")


def parsed(*lines: str, line: str = "POST /v1/completions HTTP/1.1") -> Request:
    return parse(head(*lines, line=line), _LIMITS)


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        pytest.param((), True, id="HTTP/1.1 keeps alive"),
        pytest.param(("Connection: close",), False, id="asked to close"),
        pytest.param(("Connection: Close",), False, id="asked to close, in capitals"),
        pytest.param(("Connection: x-a, close",), False, id="asked to close in a list"),
        pytest.param(("Connection: x-a", "Connection: close"), False, id="asked to close in a second line"),
        pytest.param(("Connection: keep-alive",), True, id="asked to keep"),
    ],
)
def test_keep_alive(lines: tuple[str, ...], keep_alive: bool) -> None:
    assert parsed(*lines).keep_alive is keep_alive


def test_http_1_0_does_not_keep_alive_and_needs_no_host() -> None:
    request = parse(b"POST /tokenize HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", _LIMITS)
    assert (request.http10, request.keep_alive, request.route.path) == (True, False, b"/tokenize")


def test_lines_for_the_replica_keep_their_order_and_spelling() -> None:
    request = parsed("X-B:  two ", "Authorization: Bearer s", "x-a: one", "TraceParent: 00-x", "Cookie: c=\xe9")
    assert request.fields == b"X-B:  two \r\nx-a: one\r\nTraceParent: 00-x\r\nCookie: c=\xe9\r\n"


@pytest.mark.parametrize("host", ["x", "x:80", "a.b-c.example:8080", "10.0.0.1:1", "[::1]", "[fe80::1]:80"])
def test_hosts_that_are_taken(host: str) -> None:
    assert parse(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), _LIMITS).route.path == b"/v1/models"


def test_a_query_is_no_part_of_the_path() -> None:
    assert parsed(line="POST /v1/completions?api-version=1 HTTP/1.1").route.path == b"/v1/completions"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param(b"POST http://x/ HTTP/1.1\r\nHost: x", "must be a path that begins with /", id="absolute form"),
        pytest.param(b"POST / HTTP/1.1\r\nA: b\r\n c", "folded headers are obsolete", id="folded"),
        pytest.param(b"POST / HTTP/1.1\r\nA: \x00", "has a NUL", id="NUL"),
        pytest.param(b"POST / HTTP/1.1\r\nA: b\nC: d", "bare CR or LF", id="bare LF"),
        pytest.param(b"POST / HTTP/1.1\r\nA : b", "is not `Name: value`", id="white space before the colon"),
        pytest.param(b"hello", "The request line is not", id="not HTTP"),
    ],
)
def test_a_malformed_head_is_explained(part: bytes, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(part + b"\r\n\r\n", _LIMITS)
    assert caught.value.kind.reason == "malformed_request"
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        pytest.param(b'{"model":"m"}', None, id="stream left out"),
        pytest.param(b'{"stream":true,"model":"m","messages":[{"content":"hi"}]}', True, id="stream"),
        pytest.param(b' {"model" : "a", "model":"m", "stream":false}\n', False, id="the last of two models counts"),
        pytest.param(b'{"model":"m","stream":null}', None, id="stream is null"),
    ],
)
def test_bodies(body: bytes, stream: bool | None) -> None:
    fields = read_body(body)
    assert (fields.model, fields.stream) == ("m", stream)


@pytest.mark.parametrize(
    ("lines", "length", "keep_alive", "draining"),
    [
        pytest.param("200 OK\r\nContent-Length: 7\r\n", 7, True, False, id="a length"),
        pytest.param("200 OK\r\nTransfer-Encoding: Chunked\r\n", None, True, False, id="chunks"),
        pytest.param("204\r\n", 0, True, False, id="no content, no reason"),
        pytest.param("304 Not Modified\r\nContent-Length: 7\r\n", 0, True, False, id="not modified"),
        pytest.param("200 OK\r\nConnection: close\r\nContent-Length: 0\r\n", 0, False, False, id="closing"),
        pytest.param("503 X\r\nX-Tokenfleet-Draining: 1\r\nContent-Length: 0\r\n", 0, True, True, id="draining"),
        pytest.param("200 X\r\nX-Tokenfleet-Draining: 1\r\nContent-Length: 0\r\n", 0, True, False, id="only on a 503"),
    ],
)
def test_answers(lines: str, length: int | None, keep_alive: bool, draining: bool) -> None:
    found = answer.parse(f"HTTP/1.1 {lines}\r\n".encode())
    assert (found.length, found.keep_alive, found.draining, found.fields) == (length, keep_alive, draining, b"")


def test_an_http_1_0_answer_does_not_keep_its_connection() -> None:
    assert not answer.parse(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive


def test_an_event_stream_is_known_by_its_type() -> None:
    found = answer.parse(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\ncontent-length: 1\r\n\r\n")
    assert found.event_stream
    assert found.fields == b"Content-Type: text/event-stream; charset=utf-8\r\n"
