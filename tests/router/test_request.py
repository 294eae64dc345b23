"""Heads and bodies as pure code sees them: what the tables of test_refusals.py do not show from outside."""

import pytest

from tokenfleet.router.fields import read as read_body
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.wire import answer
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.request import Request, parse

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


@pytest.mark.parametrize(
    ("lines", "credential"),
    [
        pytest.param((), None, id="none"),
        pytest.param(("Authorization: Bearer s3cret",), b"s3cret", id="Bearer"),
        pytest.param(("authorization:bEARER  s3cret \t",), b"s3cret", id="in any case and white space"),
        pytest.param(("Api-Key: s3cret",), b"s3cret", id="Api-Key"),
        pytest.param(("X-Api-Key: s3cret ",), b"s3cret", id="X-Api-Key"),
        pytest.param(("X-Api-Key: a", "Authorization: Bearer a", "Api-Key: a"), b"a", id="the same three times"),
        pytest.param(("Authorization: Basic czNjcmV0",), b"", id="another scheme is an invalid one"),
        pytest.param(("Authorization: Bearer",), b"", id="a scheme alone is an invalid one"),
        pytest.param(("Authorization: Bearer ",), b"", id="Bearer and nothing is an invalid one"),
        pytest.param(("Authorization:",), b"", id="an empty header is an invalid one"),
        pytest.param(("Authorization: s3cret",), b"", id="a token alone is an invalid one"),
        pytest.param(("Authorization: Bearer\ts3cret",), b"", id="a tab behind the scheme makes an invalid one"),
    ],
)
def test_credentials(lines: tuple[str, ...], credential: bytes | None) -> None:
    request = parsed(*lines)
    assert (request.credential, request.fields) == (credential, b"")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(("Authorization: Bearer a", "X-Api-Key: b"), "two different credentials", id="Bearer and X-Api-Key"),
        pytest.param(("Authorization: Basic a", "Api-Key: a"), "two different credentials", id="Basic and Api-Key"),
        pytest.param(("Api-Key: a", "X-Api-Key: A"), "two different credentials", id="Api-Key and X-Api-Key"),
        pytest.param(("Authorization: Bearer a",) * 2, "header authorization stands twice", id="Authorization twice"),
        pytest.param(("X-Api-Key: a", "x-api-key: b"), "header x-api-key stands twice", id="X-Api-Key twice"),
        pytest.param(("hOST: x",), "header host stands twice", id="Host twice"),
        pytest.param(
            ("Content-Length: 1", "X-A: b", "content-length: 1"), "header content-length stands twice", id="two lengths"
        ),
        pytest.param(("Content-Length: 1x",), "Content-Length is not one plain number", id="no number"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_explained(lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(Rejected) as caught:
        parsed(*lines)
    assert caught.value.kind.reason == "malformed_request"
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("lines", "traceparent"),
    [
        pytest.param(("X: y",), None, id="none"),
        pytest.param(("TraceParent: 00-a-b-01",), b"00-a-b-01", id="one"),
        pytest.param(("traceparent: 00-a-b-01", "traceparent: 00-c-d-01"), None, id="two, of which none can be believed"),
    ],
)
def test_a_traceparent_is_read_and_passes_as_it_is(lines: tuple[str, ...], traceparent: bytes | None) -> None:
    request = parsed(*lines)
    assert request.traceparent == traceparent
    assert request.fields == "".join(f"{line}\r\n" for line in lines).encode()


def test_names_that_only_begin_or_end_like_others_are_others() -> None:
    lines = (
        "Hosts: a",
        "X-Host: b",
        "Content-Length-X: 9",
        "Tea: c",
        "Expects: d",
        "Authorizations: e",
        "X-Forwarded: f",
        "Ho: st",
    )
    request = parsed(*lines)
    assert (request.length, request.credential, request.expects_continue) == (0, None, False)
    assert request.fields == "".join(f"{line}\r\n" for line in lines).encode()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("X_Forwarded_For: a", "x-forwarded-for: b", "X-Forwarded-: c"), id="forwarded"),
        pytest.param(("X_Tokenfleet_A: a", "X-Tokenfleet-: b"), id="internal"),
        pytest.param(("Content_Length: 5", "Transfer_Encoding: chunked"), id="framing with underscores"),
    ],
)
def test_what_could_be_taken_for_ours_is_dropped(lines: tuple[str, ...]) -> None:
    request = parsed(*lines)
    assert (request.fields, request.length, request.chunked) == (b"", 0, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(b"x-session-id", b"one", id="the first of two, in any case, without white space"),
        pytest.param(b"x-last", b"", id="an empty one"),
        pytest.param(b"session-id", None, id="none but in a longer name"),
        pytest.param(b"authorization", None, id="one that is not for engines"),
    ],
)
def test_a_kept_header_is_found_by_its_name(name: bytes, value: bytes | None) -> None:
    lines = ("A: x-session-id: no", "X-Session-ID: \tone \t", "x-session-id: two", "Authorization: Bearer s", "X-Last:")
    assert parsed(*lines).header(name) == value


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
