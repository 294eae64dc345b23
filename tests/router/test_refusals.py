"""Requests that are refused: each gets its error and a closed connection, and none reaches an engine.

The corpus holds what field reports and smuggling suites list. Every row is a whole or partial request as raw bytes; behind
each a well-formed one is sent on the same connection, which must not be served either.
"""

import msgspec
import pytest

from tests.router.harness import MODEL, answer, chunk, fleet, get, post, router, until
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.wire.limits import Limits

_BODY = msgspec.json.encode({"model": MODEL})
_LINE = b"POST /v1/completions HTTP/1.1\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = chunk(_BODY) + b"0\r\n\r\n"


def request(*lines: bytes, line: bytes = _LINE, host: bytes = b"Host: x\r\n", body: bytes = _BODY) -> bytes:
    return line + host + b"".join(lines) + b"\r\n" + body


CORPUS = [
    pytest.param(request(_LENGTH, _CHUNKED, body=_CHUNKS), 400, id="Content-Length and Transfer-Encoding"),
    pytest.param(request(_CHUNKED, _LENGTH), 400, id="Transfer-Encoding and Content-Length"),
    pytest.param(request(_LENGTH, _LENGTH), 400, id="Content-Length twice, the same"),
    pytest.param(request(_LENGTH, b"Content-Length: 0\r\n"), 400, id="Content-Length twice, different"),
    pytest.param(request(b"Content-Length: 16, 16\r\n"), 400, id="Content-Length as a list"),
    pytest.param(request(b"Content-Length: +16\r\n"), 400, id="Content-Length with a sign"),
    pytest.param(request(b"Content-Length: -1\r\n"), 400, id="Content-Length below zero"),
    pytest.param(request(b"Content-Length: 0x10\r\n"), 400, id="Content-Length in hexadecimal"),
    pytest.param(request(b"Content-Length: 1 6\r\n"), 400, id="Content-Length with a space inside"),
    pytest.param(request(b"Content-Length: \r\n"), 400, id="Content-Length empty"),
    pytest.param(request(b"Content-Length: 9999999999999999999999\r\n"), 400, id="Content-Length beyond all measure"),
    pytest.param(request(b"Content-Length : 16\r\n"), 400, id="white space before a colon"),
    pytest.param(request(_CHUNKED, _CHUNKED, body=_CHUNKS), 400, id="Transfer-Encoding twice"),
    pytest.param(request(b"Transfer-Encoding: gzip, chunked\r\n", body=_CHUNKS), 400, id="Transfer-Encoding with gzip"),
    pytest.param(request(b"Transfer-Encoding: chunked, identity\r\n", body=_CHUNKS), 400, id="chunked not last"),
    pytest.param(request(b"Transfer-Encoding: identity\r\n"), 400, id="Transfer-Encoding identity"),
    pytest.param(request(b"Transfer-Encoding: xchunked\r\n", body=_CHUNKS), 400, id="Transfer-Encoding xchunked"),
    pytest.param(request(b"Transfer-Encoding: \x0bchunked\r\n", body=_CHUNKS), 400, id="vertical tab before chunked"),
    pytest.param(request(b'Transfer-Encoding: "chunked"\r\n', body=_CHUNKS), 400, id="chunked in quotes"),
    pytest.param(request(b"Transfer-Encoding:\r\n", body=_CHUNKS), 400, id="Transfer-Encoding empty"),
    pytest.param(request(b"Transfer-Encoding : chunked\r\n", body=_CHUNKS), 400, id="white space before TE's colon"),
    pytest.param(request(b"X: y\r\n Transfer-Encoding: chunked\r\n", _LENGTH), 400, id="a folded header"),
    pytest.param(request(b" X: y\r\n", _LENGTH, host=b""), 400, id="white space before the first header"),
    pytest.param(request(b"X: y\nTransfer-Encoding: chunked\r\n", _LENGTH), 400, id="a bare LF in a header"),
    pytest.param(request(b"X: y\rZ: z\r\n", _LENGTH), 400, id="a bare CR in a header"),
    pytest.param(request(_LENGTH).replace(b"\r\n", b"\n"), 400, id="bare LF throughout"),
    pytest.param(b"POST /v1/completions HTTP/1.1\nHost: x", 400, id="a bare LF in the first line, head unfinished"),
    pytest.param(request(b"X: a\x00b\r\n", _LENGTH), 400, id="NUL in a header's value"),
    pytest.param(request(b"X\x00: ab\r\n", _LENGTH), 400, id="NUL in a header's name"),
    pytest.param(b"POST \x00", 400, id="NUL in the target, head unfinished"),
    pytest.param(request(b"X: a\x7fb\r\n", _LENGTH), 400, id="DEL in a header's value"),
    pytest.param(request(b": y\r\n", _LENGTH), 400, id="a header without a name"),
    pytest.param(request(b"no colon\r\n", _LENGTH), 400, id="a header without a colon"),
    pytest.param(request(b"X(: y\r\n", _LENGTH), 400, id="a header's name with a delimiter"),
    pytest.param(request(_LENGTH, host=b""), 400, id="no Host"),
    pytest.param(request(_LENGTH, host=b"Host: x\r\nHost: x\r\n"), 400, id="two Hosts"),
    pytest.param(request(_LENGTH, host=b"Host: x/y?z\r\n"), 400, id="a Host that is no host"),
    pytest.param(request(_LENGTH, host=b"Host: a@b\r\n"), 400, id="a Host with a user"),
    pytest.param(request(_LENGTH, host=b"Host: \r\n"), 400, id="an empty Host"),
    pytest.param(request(_LENGTH, line=b"POST http://x/v1/completions HTTP/1.1\r\n"), 400, id="a target in absolute form"),
    pytest.param(request(line=b"CONNECT x:80 HTTP/1.1\r\n", body=b""), 400, id="CONNECT"),
    pytest.param(request(line=b"OPTIONS * HTTP/1.1\r\n", body=b""), 400, id="OPTIONS *"),
    pytest.param(request(_LENGTH, line=b"POST  /v1/completions HTTP/1.1\r\n"), 400, id="two spaces in the first line"),
    pytest.param(request(_LENGTH, line=b"POST\t/v1/completions HTTP/1.1\r\n"), 400, id="a tab in the first line"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions#x HTTP/1.1\r\n"), 400, id="a fragment in the target"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions\r\n"), 400, id="HTTP/0.9"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions HTTP/1.1 \r\n"), 400, id="a space after the version"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions HTTP/2.0\r\n"), 505, id="HTTP/2.0 in the first line"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions HTTP/1.9\r\n"), 505, id="HTTP/1.9"),
    pytest.param(request(_LENGTH, line=b"post /v1/completions HTTP/1.1\r\n"), 400, id="a method in lower case"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="the preface of HTTP/2"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, id="a TLS handshake"),
    pytest.param(b"\r\n" + request(_LENGTH), 400, id="an empty line first"),
    pytest.param(request(_CHUNKED, line=b"POST /v1/completions HTTP/1.0\r\n", body=_CHUNKS), 400, id="chunks in HTTP/1.0"),
    pytest.param(request(_CHUNKED, body=b"5\nhello\n0\n\n"), 400, id="chunks with bare LF"),
    pytest.param(request(_CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n"), 400, id="white space after a chunk's size"),
    pytest.param(request(_CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"), 400, id="a chunk's size with 0x"),
    pytest.param(request(_CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"), 400, id="a chunk's size below zero"),
    pytest.param(request(_CHUNKED, body=b"FFFFFFFFFFFFFFFFF\r\n"), 400, id="a chunk's size beyond 64 bits"),
    pytest.param(request(_CHUNKED, body=b"5\r\nhelloX\r\n0\r\n\r\n"), 400, id="a chunk longer than its size"),
    pytest.param(request(_CHUNKED, body=b"\r\n"), 400, id="a chunk without a size"),
    pytest.param(request(b"Expect: 200-ok\r\n", _LENGTH), 417, id="an unknown expectation"),
    pytest.param(request(b"Content-Encoding: gzip\r\n", _LENGTH), 415, id="a compressed body"),
    pytest.param(request(_LENGTH, line=b"GET /v1/models HTTP/1.1\r\n"), 400, id="GET with a body"),
    pytest.param(request(_LENGTH, line=b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\n"), 414, id="a target of 9 KB"),
    pytest.param(request(b"X: " + b"a" * 40_000 + b"\r\n", _LENGTH), 431, id="a head of 40 KB"),
    pytest.param(_LINE + b"X: " + b"a" * 40_000, 431, id="a head of 40 KB, unfinished"),
    pytest.param(request(b"X: y\r\n" * 101, _LENGTH), 431, id="a hundred headers and more"),
    pytest.param(request(b"Content-Length: 9000000\r\n"), 413, id="a body said to be too large"),
    pytest.param(request(b"Expect: 100-continue\r\nContent-Length: 9000000\r\n", body=b""), 413, id="the same, asking first"),
    pytest.param(request(_LENGTH, line=b"POST /pause HTTP/1.1\r\n"), 404, id="a path of vLLM's that is not listed"),
    pytest.param(request(_LENGTH, line=b"POST /invocations HTTP/1.1\r\n"), 404, id="SageMaker's path"),
    pytest.param(request(_LENGTH, line=b"POST /v1/completions/ HTTP/1.1\r\n"), 404, id="a slash too many"),
    pytest.param(request(_LENGTH, line=b"POST //v1/completions HTTP/1.1\r\n"), 404, id="two slashes first"),
    pytest.param(request(_LENGTH, line=b"POST /v1/x/../completions HTTP/1.1\r\n"), 404, id="dots in the path"),
    pytest.param(request(_LENGTH, line=b"POST /v1/%63ompletions HTTP/1.1\r\n"), 404, id="an encoded letter in the path"),
    pytest.param(request(_LENGTH, line=b"PUT /v1/completions HTTP/1.1\r\n"), 405, id="PUT"),
    pytest.param(request(line=b"GET /v1/completions HTTP/1.1\r\n", body=b""), 405, id="GET of completions"),
]


@pytest.mark.parametrize(("raw", "status"), CORPUS)
async def test_a_malformed_request_is_refused_and_goes_nowhere(raw: bytes, status: int) -> None:
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(raw + post())
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"], reply.whole) == (status, "close", True)
        assert set(reply.error) == {"message", "type", "param", "code"}
        assert reply.error["type"] == "invalid_request_error"
        assert await client.closed()
        assert (engine.connections, engine.calls) == (0, [])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b"", "invalid_body", None, id="no body"),
        pytest.param(b"{", "invalid_body", None, id="JSON cut short"),
        pytest.param(b"[]", "invalid_body", None, id="not an object"),
        pytest.param(b'{"model":"llama","x":"\xff"} trailing', "invalid_body", None, id="bytes after the object"),
        pytest.param(b'{"model":"llama","x":' + b"[" * 100_000, "invalid_body", None, id="nested without end"),
        pytest.param(b'{"messages":[]}', "model_missing", "model", id="no model"),
        pytest.param(b'{"model":""}', "model_missing", "model", id="an empty model"),
        pytest.param(b'{"model":7}', "model_missing", "model", id="a model that is a number"),
        pytest.param(b'{"model":null}', "model_missing", "model", id="a model that is null"),
        pytest.param(b'{"model":"llama","stream":"yes"}', "invalid_body", "stream", id="stream that is a string"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_the_connection_goes_on(
    body: bytes, code: str, param: str | None
) -> None:
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(post(body))
        reply = await client.reply()
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, param)
        assert engine.calls == []
        client.write(post())
        assert (await client.reply()).status == 200


async def test_an_unknown_model_is_404_and_names_those_that_there_are() -> None:
    async with fleet(answer) as (front, _):
        reply = await front.ask(post({"model": "gpt-5"}))
        assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")
        assert reply.error["message"] == "No model 'gpt-5' is served here. Served: llama."


async def test_a_router_that_has_not_read_the_api_yet_says_so() -> None:
    async with router() as front:
        front.shared.catalog.replace([])
        front.shared.catalog.synced = False
        for raw in (post(), get("/v1/models")):
            reply = await front.ask(raw)
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "router_starting", "2")


@pytest.mark.parametrize(
    ("states", "code", "message"),
    [
        pytest.param((), "no_replicas", "No replica of this model is running at the moment. Try again later.", id="none"),
        pytest.param(
            (State.UNREADY, State.DRAINING),
            "no_ready_replica",
            "1 of 2 replicas of this model are starting or not healthy, none is ready. Try again soon.",
            id="one starting",
        ),
        pytest.param(
            (State.DRAINING, State.DRAINING),
            "all_replicas_draining",
            "All 2 replicas of this model are going away. Try again soon.",
            id="all draining",
        ),
    ],
)
async def test_without_a_replica_a_request_gets_503_and_the_reason(states: tuple[State, ...], code: str, message: str) -> None:
    seen = [Sighting(str(number), str(number), "127.0.0.1", 9, state) for number, state in enumerate(states)]
    async with router(*seen) as front, await front.connect() as client:
        for _ in range(2):
            client.write(post())
            reply = await client.reply()
            assert (reply.status, reply.error["code"], reply.error["message"]) == (503, code, message)
            assert int(reply.headers["retry-after"]) > 0
        assert front.counted(503, code) == 2


async def test_a_body_that_turns_out_too_large_is_refused_before_it_ends() -> None:
    async with fleet(answer, limits=Limits(body_bytes=1000)) as (front, (engine,)), await front.connect() as client:
        client.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 1001))
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")
        assert engine.calls == []


async def test_the_answer_to_a_body_too_large_survives_the_rest_of_the_body() -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 2_000_000)
        await client.writer.drain()
        reply = await client.reply()
        assert (reply.status, reply.whole) == (413, True)


@pytest.mark.parametrize(
    ("part", "state"),
    [
        pytest.param(b"POST /v1/comp", "head", id="a head that does not end"),
        pytest.param(post().removesuffix(b"}"), "body", id="a body that does not end"),
    ],
)
async def test_a_request_that_comes_too_slowly_gets_408(part: bytes, state: str) -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(part)
        await until(lambda: any(one.state.value == state for one in front.server.clients()))
        front.advance(61)
        reply = await client.reply()
        assert (reply.status, reply.error["message"]) == (408, f"The request's {state} did not come in time.")
        front.advance(3)
        assert await client.closed()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(post())
        await client.reply()
        front.advance(74)
        client.write(post())
        assert (await client.reply()).status == 200
        front.advance(76)
        assert await client.closed()


async def test_a_refusal_lingers_but_not_for_ever() -> None:
    async with fleet(answer, limits=Limits(linger_bytes=10_000)) as (front, _), await front.connect() as client:
        client.write(b"BAD\r\n\r\n" + b"x" * 200_000)
        with pytest.raises(ConnectionError):
            while True:
                client.write(b"x" * 10_000)
                await client.writer.drain()


async def test_a_refused_request_is_counted_by_its_reason() -> None:
    async with fleet(answer) as (front, _):
        await front.ask(b"BAD\r\n\r\n")
        await front.ask(get("/nothing"))
        assert (front.counted(400, "malformed_request"), front.counted(404, "unknown_path")) == (1, 1)
