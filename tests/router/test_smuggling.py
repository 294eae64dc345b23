"""Request smuggling, as the public suites attempt it: either one well-formed request reaches the engine, or none does.

Each row is what a client sends, and it tries to hide a second request in it: one that carries the header X-Smuggled. A row is
REFUSED (an error of the router's own, and the connection closed), or it passes as exactly one request whose head the router
has written anew. In no case, and however the bytes are cut into pieces, does the hidden request get to the engine.
"""

import msgspec
import pytest

from tests.router.harness import MODEL, Reply, answer, chunk, fleet, get

BODY = msgspec.json.encode({"model": MODEL})
LINE = b"POST /v1/completions HTTP/1.1"
HOST = b"Host: x"
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
WHOLE = chunk(BODY) + LAST
HIDDEN = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Smuggled: 1\r\n%b\r\n\r\n%b" % (LENGTH, BODY)


def raw(*lines: bytes, first: bytes = LINE, host: bytes = HOST, body: bytes = BODY) -> bytes:
    head = [first, host, *lines] if host else [first, *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


LENGTHS = {
    f"Content-Length {name}": raw(b"Content-Length:" + value, body=BODY + HIDDEN)
    for name, value in {
        "with a plus": b" +16",
        "with a minus": b" -16",
        "minus nothing": b" -0",
        "in hexadecimal": b" 0x10",
        "in hexadecimal without 0x": b" 1f",
        "in octal": b" 0o20",
        "with a fraction": b" 16.0",
        "with an exponent": b" 1e1",
        "with an underscore": b" 1_6",
        "with a comma": b" 16,",
        "as a list of the same": b" 16, 16",
        "as a list of others": b" 16, 0",
        "with a space inside": b" 1 6",
        "with a tab inside": b" 1\t6",
        "with a vertical tab": b" \x0b16",
        "with a form feed": b" 16\x0c",
        "with a semicolon": b" 16;",
        "in quotes": b' "16"',
        "in full-width digits": " １６".encode(),
        "in Arabic digits": " ١٦".encode(),
        "superscript": b" \xb2",
        "with a NUL": b" 16\x00",
        "beyond 64 bits": b" 18446744073709551632",
        "beyond 15 digits": b" 0000000000000016",
        "empty": b"",
        "of white space": b" \t ",
        "not a number": b" many",
    }.items()
}
CODINGS = {
    f"Transfer-Encoding {name}": raw(b"Transfer-Encoding:" + value, body=WHOLE + HIDDEN)
    for name, value in {
        "xchunked": b" xchunked",
        "chunkedx": b" chunkedx",
        "chunk": b" chunk",
        "cow": b" cow",
        "identity": b" identity",
        "identity, chunked": b" identity, chunked",
        "chunked, identity": b" chunked, identity",
        "chunked, chunked": b" chunked, chunked",
        "chunked and a comma": b" chunked,",
        "a comma and chunked": b" ,chunked",
        "gzip, chunked": b" gzip, chunked",
        "with a parameter": b" chunked;x=y",
        "with a semicolon": b" chunked;",
        "in quotes": b' "chunked"',
        "in single quotes": b" 'chunked'",
        "in brackets": b" [chunked]",
        "with a NUL": b" chunked\x00",
        "behind a NUL": b" \x00chunked",
        "behind a vertical tab": b" \x0bchunked",
        "before a form feed": b" chunked\x0c",
        "behind a backspace": b" \x08chunked",
        "behind a no-break space": b" \xa0chunked",
        "before NEL": b" chunked\x85",
        "behind 0xff": b" \xffchunked",
        "before DEL": b" chunked\x7f",
        "in full width": " ｃｈｕｎｋｅｄ".encode(),
        "with a Kelvin sign": " chun\u212aed".encode(),
        "with a space inside": b" chu nked",
        "folded": b"\r\n chunked",
        "folded by a tab": b"\r\n\tchunked",
        "cut by a CR": b" chu\rnked",
        "cut by a LF": b" chu\nnked",
        "empty": b"",
    }.items()
}
BOTH = {
    "CL.TE": raw(b"Content-Length: %d" % len(LAST + HIDDEN), CHUNKED, body=LAST + HIDDEN),
    "TE.CL": raw(CHUNKED, b"Content-Length: 4", body=chunk(HIDDEN) + LAST),
    "CL 0 and TE": raw(b"Content-Length: 0", CHUNKED, body=WHOLE + HIDDEN),
    "CL twice, the same": raw(LENGTH, LENGTH, body=BODY + HIDDEN),
    "CL twice, the second longer": raw(LENGTH, b"Content-Length: 400", body=BODY + HIDDEN),
    "CL twice, the second in other case": raw(LENGTH, b"CONTENT-LENGTH: 0", body=BODY + HIDDEN),
    "CL twice, far apart": raw(
        LENGTH, *[b"X-%d: y" % number for number in range(40)], b"content-length: 0", body=BODY + HIDDEN
    ),
    "TE twice, the same": raw(CHUNKED, CHUNKED, body=WHOLE + HIDDEN),
    "TE twice, identity first": raw(b"Transfer-Encoding: identity", CHUNKED, body=WHOLE + HIDDEN),
    "TE twice, cow second": raw(CHUNKED, b"Transfer-encoding: cow", body=WHOLE + HIDDEN),
    "TE in HTTP/1.0": raw(CHUNKED, first=b"POST /v1/completions HTTP/1.0", body=WHOLE + HIDDEN),
    "CL and obfuscated TE": raw(LENGTH, b"Transfer-Encoding : chunked", body=WHOLE + HIDDEN),
    "TE hidden behind a CR": raw(LENGTH, b"X: y\rTransfer-Encoding: chunked", body=WHOLE + HIDDEN),
    "TE hidden behind a LF": raw(LENGTH, b"X: y\nTransfer-Encoding: chunked", body=WHOLE + HIDDEN),
    "TE in a folded line": raw(LENGTH, b"X: y\r\n Transfer-Encoding: chunked", body=WHOLE + HIDDEN),
    "TE hidden behind a NUL": raw(LENGTH, b"X: y\x00\r\nTransfer-Encoding: chunked", body=WHOLE + HIDDEN),
}
NAMES = {
    f"a name {name}": raw(line, LENGTH, body=BODY + HIDDEN)
    for name, line in {
        "before a space and a colon": b"Transfer-Encoding : chunked",
        "before a tab and a colon": b"Transfer-Encoding\t: chunked",
        "behind a space": b" Transfer-Encoding: chunked",
        "behind a tab": b"\tTransfer-Encoding: chunked",
        "behind a NUL": b"\x00Transfer-Encoding: chunked",
        "behind a vertical tab": b"\x0bTransfer-Encoding: chunked",
        "with a CR at its end": b"Transfer-Encoding\r: chunked",
        "on a line before its colon": b"Transfer-Encoding\r\n: chunked",
        "without a colon": b"Transfer-Encoding chunked",
        "that is nothing": b": chunked",
        "with a slash": b"Transfer/Encoding: chunked",
        "with brackets": b"Transfer[Encoding]: chunked",
        "with an at sign": b"Transfer@Encoding: chunked",
        "with a letter beyond ASCII": "Trансfer-Encoding: chunked".encode(),
        "with 0xa0": b"Transfer-Encoding\xa0: chunked",
        "in quotes": b'"Transfer-Encoding": chunked',
        "with a comma": b"Transfer-Encoding,X: chunked",
        "that is a second request line": b"GET /pause HTTP/1.1",
        "of HTTP/2": b":method: GET",
    }.items()
}
CHUNKS = {
    f"a chunk {name}": raw(CHUNKED, body=data + HIDDEN)
    for name, data in {
        "with a size and a LF": b"5\nhello\r\n" + LAST,
        "with a size and a CR": b"5\rhello\r\n" + LAST,
        "with a size and two CRs": b"5\r\r\nhello\r\n" + LAST,
        "with data and a LF": b"5\r\nhello\n" + LAST,
        "with data and two CRs": b"5\r\nhello\r\r\n" + LAST,
        "shorter than its size": b"9\r\nhello\r\n" + LAST,
        "longer than its size": b"3\r\nhello\r\n" + LAST,
        "with a plus": b"+5\r\nhello\r\n" + LAST,
        "with a minus": b"-5\r\nhello\r\n" + LAST,
        "minus nothing at the end": b"5\r\nhello\r\n-0\r\n\r\n",
        "with 0x": b"0x5\r\nhello\r\n" + LAST,
        "with h": b"5h\r\nhello\r\n" + LAST,
        "with an underscore": b"0_5\r\nhello\r\n" + LAST,
        "behind a space": b" 5\r\nhello\r\n" + LAST,
        "before a space": b"5 \r\nhello\r\n" + LAST,
        "before a tab": b"5\t\r\nhello\r\n" + LAST,
        "before a vertical tab": b"5\x0b\r\nhello\r\n" + LAST,
        "before a NUL": b"5\x00\r\nhello\r\n" + LAST,
        "of another base": "٥\r\nhello\r\n".encode() + LAST,
        "with a list of sizes": b"5,5\r\nhello\r\n" + LAST,
        "without a size": b"\r\nhello\r\n" + LAST,
        "with an extension alone": b";a=b\r\nhello\r\n" + LAST,
        "beyond 64 bits": b"10000000000000005\r\nhello\r\n" + LAST,
        "with an extension and a LF": b"5;a=b\nhello\r\n" + LAST,
        "with an extension and a CR": b"5;a=b\rhello\r\n" + LAST,
        "with an extension and two CRs": b"5;a=b\r\r\nhello\r\n" + LAST,
        "with an empty extension": b"5;\r\nhello\r\n" + LAST,
        "with an empty extension and a LF": b"5;\nxx\r\n" + LAST,
        "with a space before its extension": b"5 ;a=b\r\nhello\r\n" + LAST,
        "with a NUL in its extension": b"5;a=\x00\r\nhello\r\n" + LAST,
        "with a quoted line break": b'5;a="\r\n\r\n"\r\nhello\r\n' + LAST,
        "with a quote that does not end": b'5;a="b\r\nhello\r\n' + LAST,
        "with a LF after the last": b"5\r\nhello\r\n0\n\n",
        "with a LF at the very end": b"5\r\nhello\r\n0\r\n\n",
    }.items()
}
TRAILERS = {
    f"a trailer {name}": raw(CHUNKED, body=chunk(BODY) + b"0\r\n" + data + b"\r\n\r\n" + HIDDEN)
    for name, data in {
        "Content-Length": b"Content-Length: 5",
        "Transfer-Encoding": b"Transfer-Encoding: chunked",
        "folded": b"X: y\r\n z",
        "without a colon": b"no colon",
        "without a name": b": y",
        "with a space before the colon": b"X : y",
        "with a NUL": b"X: \x00",
        "with a bare LF": b"X: y\nZ: z",
        "with a bare CR": b"X: y\rZ: z",
    }.items()
}
TARGETS = {
    f"a target {name}": raw(LENGTH, first=b"POST %b HTTP/1.1" % target, body=BODY + HIDDEN)
    for name, target in {
        "in absolute form": b"http://x/v1/completions",
        "in absolute form of another host": b"http://engine:8000/pause",
        "of another scheme": b"file:///etc/passwd",
        "that is an authority": b"x:80",
        "that is an asterisk": b"*",
        "without its slash": b"v1/completions",
        "with a backslash": b"\\v1\\completions",
        "with a fragment": b"/v1/completions#/pause",
        "with a space": b"/v1/completions /pause",
        "with a tab": b"/v1/completions\tx",
        "with a NUL": b"/v1/completions\x00",
        "with a LF": b"/v1/completions\n",
        "with a CR": b"/v1/completions\r",
        "with DEL": b"/v1/completions\x7f",
        "with a byte beyond ASCII": b"/v1/completions\xff",
    }.items()
}
UNLISTED = {
    f"the path {path.decode()}": raw(LENGTH, first=b"POST %b HTTP/1.1" % path, body=BODY + HIDDEN)
    for path in (
        *(b"/pause", b"/invocations", b"/update_weights", b"/v1/load_lora_adapter", b"/sleep", b"/reset_prefix_cache", b"/"),
        *(b"//v1/completions", b"/v1//completions", b"/v1/completions/", b"/v1/completions;x", b"/./v1/completions"),
        *(b"/v1/../pause", b"/v1/completions/../../pause", b"/v1/completions/..%2f..%2fpause", b"/v1/%2e%2e/pause"),
        *(b"/v1/%63ompletions", b"/v1%2fcompletions", b"/v1/%252e%252e/pause", b"/v1/completions%00", b"/v1/completions%0d%0a"),
        *(b"/V1/completions", b"/v1/Completions", b"/v1\\completions", b"/v1/completions%20", b"/v1/completions&x=/pause"),
        *(b'/v1/completions"', b"/%2e/v1/completions", b"/tokenfleet/drain", b"/tokenfleet/load", b"/metrics"),
    )
}
LINES = {
    f"a first line {name}": raw(LENGTH, first=line, body=BODY + HIDDEN)
    for name, line in {
        "with two spaces": b"POST  /v1/completions HTTP/1.1",
        "with a space first": b" POST /v1/completions HTTP/1.1",
        "with a space last": b"POST /v1/completions HTTP/1.1 ",
        "with tabs": b"POST\t/v1/completions\tHTTP/1.1",
        "with a vertical tab": b"POST\x0b/v1/completions HTTP/1.1",
        "behind an empty line": b"\r\nPOST /v1/completions HTTP/1.1",
        "behind a LF": b"\nPOST /v1/completions HTTP/1.1",
        "behind a byte order mark": b"\xef\xbb\xbfPOST /v1/completions HTTP/1.1",
        "with a method in lower case": b"post /v1/completions HTTP/1.1",
        "with a method in mixed case": b"Post /v1/completions HTTP/1.1",
        "with a method of delimiters": b"PO(ST /v1/completions HTTP/1.1",
        "with a method without end": b"P" * 40 + b" /v1/completions HTTP/1.1",
        "without a version": b"POST /v1/completions",
        "with a version in lower case": b"POST /v1/completions http/1.1",
        "with another protocol": b"POST /v1/completions ICAP/1.0",
        "with RTSP": b"POST /v1/completions RTSP/1.0",
        "with a version of two digits": b"POST /v1/completions HTTP/1.10",
        "with a version of leading zero": b"POST /v1/completions HTTP/01.1",
        "with a version without minor": b"POST /v1/completions HTTP/1",
        "with a version and garbage": b"POST /v1/completions HTTP/1.1x",
        "with a header on it": b"POST /v1/completions HTTP/1.1 Host: x",
        "of an answer": b"HTTP/1.1 200 OK",
        "that is a header": b"Host: x",
    }.items()
}
VERSIONS = {
    f"version {version.decode()}": raw(LENGTH, first=b"POST /v1/completions HTTP/" + version, body=BODY + HIDDEN)
    for version in (b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9")
} | {"the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"}
HOSTS = {
    f"Host {name}": raw(LENGTH, host=host, body=BODY + HIDDEN)
    for name, host in {
        "that is missing": b"",
        "twice": b"Host: x\r\nHost: x",
        "twice, in other case": b"Host: x\r\nhost: engine:8000",
        "that is empty": b"Host:",
        "with a user": b"Host: x@engine:8000",
        "with a path": b"Host: x/pause",
        "with a query": b"Host: x?y",
        "with a fragment": b"Host: x#y",
        "with a space": b"Host: x engine",
        "with a tab": b"Host: x\tengine",
        "that is a list": b"Host: x, y",
        "with two ports": b"Host: x:80:90",
        "with a port in letters": b"Host: x:http",
        "with a port too long": b"Host: x:800000",
        "with a backslash": b"Host: x\\engine",
        "with a NUL": b"Host: x\x00",
        "in absolute form": b"Host: http://x",
        "with half an IPv6 address": b"Host: [::1",
        "folded": b"Host:\r\n x",
        "behind a space": b" Host: x",
        "before a space": b"Host : x",
        "of bytes beyond ASCII": b"Host: \xff",
        "with an underscore for its name": b"_Host: x",
    }.items()
}
EXPECTATIONS = {
    f"Expect {value.decode()!r}": raw(b"Expect:" + value, LENGTH, body=BODY + HIDDEN)
    for value in (
        b" 200-ok",
        b" y 100-continue",
        b" 100-continue, 100-continue",
        b" 100-continue;x",
        b" 100",
        b"",
        b' "100-continue"',
    )
}
OTHERS = {
    "Expect twice": raw(b"Expect: 100-continue", b"Expect: 100-continue", LENGTH, body=BODY + HIDDEN),
    "CONNECT": raw(first=b"CONNECT engine:8000 HTTP/1.1", body=HIDDEN),
    "GET with a hidden request as its body": raw(b"Content-Length: 5", first=b"GET /v1/models HTTP/1.1", body=HIDDEN),
    "GET in chunks": raw(CHUNKED, first=b"GET /v1/models HTTP/1.1", body=LAST + HIDDEN),
    "HTTP/0.9": b"GET /v1/models\r\n\r\n" + HIDDEN,
    "two credentials": raw(b"Authorization: Bearer a", b"X-Api-Key: b", LENGTH, body=BODY + HIDDEN),
    "one credential twice": raw(b"Authorization: Bearer a", b"authorization: Bearer a", LENGTH, body=BODY + HIDDEN),
}
REFUSED: dict[str, tuple[bytes, int]] = {
    name: (data, status)
    for status, rows in (
        *((400, rows) for rows in (LENGTHS, CODINGS, BOTH, NAMES, CHUNKS, TRAILERS, TARGETS, LINES, HOSTS, OTHERS)),
        (404, UNLISTED),
        (415, {"a body in a coding": raw(b"Content-Encoding: chunked", LENGTH, body=BODY + HIDDEN)}),
        (417, EXPECTATIONS),
        (505, VERSIONS),
    )
    for name, data in rows.items()
}


@pytest.mark.parametrize(("data", "status"), [pytest.param(*row, id=name) for name, row in REFUSED.items()])
async def test_what_could_be_read_in_two_ways_is_refused(data: bytes, status: int) -> None:
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(data)
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"], reply.whole) == (status, "close", True)
        assert await client.closed()
        assert (engine.connections, engine.calls) == (0, [])


async def passed(data: bytes) -> tuple[list[Reply], list[str], bytes]:
    """What a client gets for some bytes, and for another request if it may send one; and what the engine gets: names, body."""
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(data)
        replies = [await client.reply()]
        if replies[0].headers.get("connection") != "close":
            client.write(get("/v1/models"))
            replies.append(await client.reply())
        else:
            assert await client.closed()
        (call,) = engine.calls
        return replies, call.names, call.body


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Connection: Content-Length", id="Content-Length as hop by hop"),
        pytest.param(b"Connection: close, Host, Content-Length", id="Host and Content-Length as hop by hop"),
        pytest.param(b"Connection: Transfer-Encoding", id="Transfer-Encoding as hop by hop"),
        pytest.param(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk", id="h2c"),
        pytest.param(b"Connection: Upgrade\r\nUpgrade: websocket", id="a WebSocket"),
        pytest.param(b"Transfer_Encoding: chunked", id="an underscore in Transfer-Encoding"),
        pytest.param(b"Content_Length: 0", id="an underscore in Content-Length"),
        pytest.param(b"X_Forwarded_For: 127.0.0.1", id="underscores in X-Forwarded-For"),
        pytest.param(b"X_Tokenfleet-Draining: 1", id="an underscore in an internal header"),
        pytest.param(b"X-Request-Id: mine\r\nX-Request-ID: mine", id="a request id of the client's, twice"),
        pytest.param(b"X-Forwarded-Host: engine\r\nX-Forwarded-Proto: https", id="X-Forwarded"),
        pytest.param(b"TE: trailers, chunked\r\nTrailer: Content-Length", id="TE and Trailer"),
        pytest.param(b"Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5", id="what never was a header"),
        pytest.param(b"Expect: 100-continue", id="an expectation whose body comes unasked"),
        pytest.param(b"Connection: keep-alive\r\nConnection: keep-alive", id="Connection twice"),
    ],
)
async def test_a_head_that_means_one_thing_passes_without_what_could_mean_another(line: bytes) -> None:
    replies, names, body = await passed(raw(line, LENGTH))
    assert replies[0].status == 200
    assert names == ["host", "x-request-id", "content-length"]
    assert body == BODY


HIDING = msgspec.json.encode({"model": MODEL, "x": HIDDEN.decode()})
ALLOWED = {
    "CL.0": (raw(b"Content-Length: %d" % len(HIDING), body=HIDING), HIDING, 2),
    "chunks": (raw(CHUNKED, body=WHOLE), BODY, 2),
    "chunked in capitals, in white space": (raw(b"transfer-encoding:\tCHUNKED \t", body=WHOLE), BODY, 2),
    "chunks with extensions": (raw(CHUNKED, body=b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY)), BODY, 2),
    "zeros before chunks' sizes": (raw(CHUNKED, body=b"000%X\r\n%b\r\n000\r\n\r\n" % (len(BODY), BODY)), BODY, 2),
    "chunks with a trailer": (raw(CHUNKED, body=chunk(BODY) + b"0\r\nX-Smuggled: 1\r\n\r\n"), BODY, 2),
    "zeros before Content-Length": (raw(b"Content-Length: 00%d" % len(BODY)), BODY, 2),
    "a query": (raw(LENGTH, first=b"POST /v1/completions?x=/pause&y=%0d%0a HTTP/1.1"), BODY, 2),
    "HTTP/1.0": (raw(LENGTH, first=b"POST /v1/completions HTTP/1.0"), BODY, 1),
    "Connection: close": (raw(LENGTH, b"Connection: close"), BODY, 1),
}


@pytest.mark.parametrize(("data", "body", "answered"), [pytest.param(*row, id=name) for name, row in ALLOWED.items()])
async def test_a_body_that_means_one_thing_passes_with_a_length(data: bytes, body: bytes, answered: int) -> None:
    replies, names, got = await passed(data)
    assert [reply.status for reply in replies] == [200] * answered
    assert names == ["host", "x-request-id", "content-length"]
    assert got == body


async def test_a_request_behind_chunks_is_not_served_with_them() -> None:
    replies, names, body = await passed(raw(CHUNKED, body=WHOLE + HIDDEN))
    assert ([reply.status for reply in replies], replies[0].headers["connection"]) == ([200], "close")
    assert (names, body) == (["host", "x-request-id", "content-length"], BODY)
