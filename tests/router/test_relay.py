"""What passes through a router: requests, answers, streams, and which headers of each."""

import asyncio
import socket

import msgspec
import pytest

from tests.router.harness import DONE, EVENT, MODEL, Call, answer, chunk, fleet, get, post, router, until
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.wire.limits import Limits


async def test_an_answer_comes_back_whole_and_its_lease_ends() -> None:
    async with fleet(answer) as (front, (engine,)):
        reply = await front.ask(post())
        assert (reply.status, reply.whole) == (200, True)
        assert msgspec.json.decode(reply.body)["ok"] is True
        assert reply.headers["x-request-id"] == engine.calls[0].headers["x-request-id"]
        assert front.in_flight == 0
        assert front.counted(200, "relayed") == 1


async def test_a_stream_comes_back_event_by_event() -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        call.begin_stream()
        call.event()
        await go.wait()
        call.event()
        call.end_stream()

    async with fleet(slowly) as (front, _), await front.connect() as client:
        client.write(post(stream=True))
        status, headers = await client.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert await client.reader.readexactly(len(chunk(EVENT))) == chunk(EVENT)
        assert front.in_flight == 1
        go.set()
        rest = chunk(EVENT) + chunk(DONE) + b"0\r\n\r\n"
        got = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        assert got in (rest, chunk(EVENT + DONE) + b"0\r\n\r\n")
        await until(lambda: front.in_flight == 0)


async def test_clients_choose_neither_credentials_nor_internal_headers() -> None:
    mine = (
        "Authorization: Bearer secret\r\nX-Api-Key: secret\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"
        "X-Request-Id: mine\r\nX-Tokenfleet-Priority: 9\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
        "Keep-Alive: 5\r\nUpgrade: h2c\r\nAccept-Encoding: gzip\r\nTraceparent: 00-1-2-01\r\nX-Mine: yes\r\n"
    )
    async with fleet(answer) as (front, (engine,)):
        assert (await front.ask(post(headers=mine))).status == 200
        call = engine.calls[0]
        assert call.names == ["host", "traceparent", "x-mine", "x-request-id", "content-length"]
        assert call.headers["host"] == f"127.0.0.1:{engine.port}"
        assert call.headers["x-request-id"] != "mine"


async def test_an_engines_hop_by_hop_and_internal_headers_stay_inside() -> None:
    async def chatty(call: Call) -> None:
        extra = "Keep-Alive: timeout=5\r\nX-Request-Id: theirs\r\nX-Tokenfleet-Load: 3\r\nX-Other: yes\r\n"
        call.json({}, headers=extra)

    async with fleet(chatty) as (front, _):
        reply = await front.ask(post())
        assert set(reply.headers) == {"content-type", "content-length", "x-request-id", "X-Other"}
        assert reply.headers["x-request-id"] != "theirs"


async def test_an_engines_own_error_passes_as_it_is() -> None:
    async def refuse(call: Call) -> None:
        call.json({"error": {"message": "too long"}}, status=400)

    async with fleet(refuse, refuse) as (front, made):
        reply = await front.ask(post())
        assert (reply.status, reply.error["message"]) == (400, "too long")
        assert sum(len(engine.calls) for engine in made) == 1


async def overloaded(call: Call) -> None:
    call.json({}, status=503, headers="Retry-After: 7\r\n")


async def test_what_one_engine_has_no_place_for_another_gets() -> None:
    async with fleet(overloaded, answer) as (front, _):
        assert [(await front.ask(post())).status for _ in range(2)] == [200, 200]


async def test_an_engines_503_passes_as_it_is_where_there_is_no_other() -> None:
    async with fleet(overloaded) as (front, _):
        reply = await front.ask(post())
        assert (reply.status, reply.headers["Retry-After"]) == (503, "7")


async def test_a_connection_serves_one_request_after_another_and_so_does_the_one_upstream() -> None:
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        for _ in range(5):
            client.write(post())
            assert (await client.reply()).status == 200
        assert (len(engine.calls), engine.connections) == (5, 1)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        sizes = [10, 200, 3000]
        bodies = [msgspec.json.encode({"model": MODEL, "prompt": "x" * size}) for size in sizes]
        client.write(b"".join(post(body) for body in bodies) + get("/v1/models"))
        echoes = [msgspec.json.decode((await client.reply()).body)["echo"] for _ in sizes]
        assert echoes == [len(body) for body in bodies]
        assert (await client.reply()).status == 200


async def test_a_client_that_pipelines_without_end_is_not_read_without_end() -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> None:
        await go.wait()
        await answer(call)

    async with fleet(wait) as (front, (engine,)), await front.connect() as client:
        client.write(post() * 20_000)
        await until(lambda: engine.calls and any(one.flow.read_paused for one in front.server.clients()))
        go.set()
        for _ in range(100):
            assert (await client.reply()).status == 200


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_chunked_request_reaches_the_engine_with_a_length(size: int) -> None:
    body = msgspec.json.encode({"model": MODEL, "prompt": "y" * 300})
    parts = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(head + parts + b"0\r\nTrailer: dropped\r\n\r\n")
        assert (await client.reply()).status == 200
        assert engine.calls[0].body == body
        assert engine.calls[0].names == ["host", "x-request-id", "content-length"]
        client.write(post())
        assert (await client.reply()).status == 200


async def test_what_is_pipelined_behind_a_chunked_request_is_not_served() -> None:
    body = chunk(msgspec.json.encode({"model": MODEL})) + b"0\r\n\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with fleet(answer) as (front, (engine,)), await front.connect() as client:
        client.write(head + body + post())
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await client.closed()
        assert len(engine.calls) == 1


async def test_expect_100_continue_is_met_before_the_body() -> None:
    body = msgspec.json.encode({"model": MODEL})
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(post(body, headers="Expect: 100-continue\r\n").removesuffix(body))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.write(body)
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_http_1_0_gets_no_chunks_and_a_closed_connection(stream: bool) -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(post(version="1.0", stream=stream))
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in reply.headers
        assert not stream or reply.body == EVENT * 3 + DONE
        assert await client.closed()


async def test_an_answer_in_pieces_is_put_together() -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"

    async def dribble(call: Call) -> None:
        for byte in raw:
            call.write(bytes((byte,)))
            await call.writer.drain()
            await asyncio.sleep(0)

    async with fleet(dribble) as (front, _):
        reply = await front.ask(post())
        assert (reply.status, reply.body, reply.whole) == (200, b"hello", True)
        assert "link" not in reply.headers


async def test_an_answer_without_a_body_is_one() -> None:
    async def nothing(call: Call) -> None:
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with fleet(nothing) as (front, _), await front.connect() as client:
        for _ in range(2):
            client.write(post())
            reply = await client.reply()
            assert (reply.status, reply.body) == (204, b"")


async def test_models_are_listed_with_no_replica_up() -> None:
    async with router() as front:
        reply = await front.ask(get("/v1/models"))
        entry: dict[str, object] = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "tokenfleet"}
        entry |= {"root": MODEL, "parent": None}
        assert msgspec.json.decode(reply.body) == {"object": "list", "data": [entry]}
        assert msgspec.json.decode((await front.ask(get(f"/v1/models/{MODEL}?x=1"))).body) == entry
        missing = await front.ask(get("/v1/models/other%2Fone"))
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")
        assert missing.error["message"] == "No model 'other/one' is served here. Served: llama."


async def test_requests_share_replicas_evenly() -> None:
    async with fleet(answer, answer, answer) as (front, made):
        for _ in range(30):
            assert (await front.ask(post())).status == 200
        assert [len(engine.calls) for engine in made] == [10, 10, 10]


async def test_a_replica_may_think_longer_about_its_first_byte_than_between_two() -> None:
    go = asyncio.Event()

    async def thinks(call: Call) -> None:
        call.begin_stream()
        await go.wait()
        call.event()
        await call.gone()

    limits = Limits(first_byte_seconds=100, silence_seconds=10)
    async with fleet(thinks, limits=limits) as (front, _), await front.connect() as client:
        client.write(post(stream=True))
        await until(lambda: front.in_flight)
        front.advance(99)
        assert front.in_flight == 1
        go.set()
        await client.head()
        assert await client.reader.readexactly(len(chunk(EVENT))) == chunk(EVENT)
        front.advance(9)
        assert front.in_flight == 1
        front.advance(2)
        assert b"upstream_lost" in await client.reader.read()
        assert front.in_flight == 0


async def test_a_stream_whose_head_came_and_nothing_else_is_waited_for_like_a_first_byte() -> None:
    async def silent(call: Call) -> None:
        call.begin_stream()
        await call.gone()

    limits = Limits(first_byte_seconds=100, silence_seconds=10)
    async with fleet(silent, limits=limits) as (front, (engine,)), await front.connect() as client:
        client.write(post(stream=True))
        await until(lambda: engine.calls)
        front.advance(99)
        assert front.in_flight == 1
        front.advance(2)
        reply = await client.reply()
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")


async def test_a_replica_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = [socket.socket() for _ in range(8)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        seen = Sighting("full", "full", "127.0.0.1", full.getsockname()[1], State.ROUTABLE)
        async with router(seen, limits=Limits(connect_seconds=0.05)) as front:
            reply = await front.ask(post())
            assert (reply.status, reply.error["code"]) == (503, "replicas_unreachable")
        for one in held:
            one.close()


async def test_small_writes_leave_at_once_and_dead_peers_are_noticed() -> None:
    async with fleet(answer) as (front, _), await front.connect() as client:
        client.write(post())
        await client.reply()
        sockets = [one.transport.get_extra_info("socket") for one in front.server.clients()]
        spare = [one for held in front.shared.upstreams.spare.values() for one in held]
        sockets += [one.transport.get_extra_info("socket") for one in spare]
        assert len(sockets) == 2
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)
        assert all(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for one in sockets)
        timeouts = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for one in sockets]
        assert timeouts == [60_000, 30_000]
