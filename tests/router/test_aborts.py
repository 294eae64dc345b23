"""Clients that leave, stall or drown us: what they held is given back at once, and memory stays bounded."""

import asyncio
import contextlib
import random

import msgspec
import pytest

from tests.router.harness import MODEL, Call, Client, Router, answer, chunk, fleet, get, post, until
from tokenfleet.router.wire.limits import Limits


@pytest.mark.parametrize("goodbye", ["reset", "close", "half-close"])
@pytest.mark.parametrize("moment", ["before the head", "in the stream"])
async def test_a_client_that_leaves_stops_its_replica_at_once(goodbye: str, moment: str) -> None:
    stopped = asyncio.Event()

    async def endless(call: Call) -> None:
        if moment == "in the stream":
            call.begin_stream()
            call.event()
        await call.gone()
        stopped.set()

    async with fleet(endless) as (front, (engine,)), await front.connect() as client:
        client.write(post(stream=True))
        await until(lambda: engine.calls)
        if moment == "in the stream":
            await client.head()
        assert front.in_flight == 1
        if goodbye == "reset":
            client.reset()
        elif goodbye == "close":
            client.writer.close()
        else:
            client.writer.write_eof()
        await asyncio.wait_for(stopped.wait(), 10)
        assert front.in_flight == 0
        assert front.counted(499, "client_gone") == 1
        assert front.shared.upstreams.idle_total() == 0


async def test_a_client_that_leaves_while_its_replica_is_being_connected_leaks_nothing() -> None:
    async with fleet(answer) as (front, (engine,)):
        client = await front.connect()
        client.write(post())
        await until(lambda: front.in_flight == 1)
        client.reset()
        await until(lambda: front.in_flight == 0)
        await until(lambda: not front.shared.clients)
        assert engine.calls == [] or front.counted(499, "client_gone") == 1
        front.advance(5)
        await until(lambda: engine.open == 0)


async def test_a_slow_client_slows_its_replica_down_and_costs_little_memory() -> None:
    written = 0
    piece = chunk(b"x" * 65_536)

    async def flood(call: Call) -> None:
        nonlocal written
        call.begin_stream()
        while True:
            call.write(piece)
            await call.writer.drain()
            written += len(piece)

    async with fleet(flood) as (front, _), await front.connect(limit=1) as client:
        client.write(post(stream=True))
        await until(lambda: any(one.flow.write_paused for one in front.server.clients()))
        (connection,) = front.server.clients()
        before = -1
        while before != written:
            before = written
            for _ in range(200):
                await asyncio.sleep(0)
        held = connection.transport.get_write_buffer_size()
        assert held <= front.shared.limits.write_buffer_bytes + 512 * 1024
        assert written < 32 * 1024 * 1024, "what the sockets of both sides hold, and no more"
        client.reader._limit = 1 << 20  # type: ignore[attr-defined]
        for _ in range(200):
            await client.reader.readexactly(65_536)
        await until(lambda: written > before)
        client.reset()
        await until(lambda: front.in_flight == 0)


async def test_a_client_that_takes_nothing_is_given_up_and_its_replica_with_it() -> None:
    async def flood(call: Call) -> None:
        call.begin_stream()
        while True:
            call.write(chunk(b"x" * 65_536))
            await call.writer.drain()

    async with fleet(flood) as (front, (engine,)), await front.connect(limit=1) as client:
        client.write(post(stream=True))
        await until(lambda: any(one.flow.write_paused for one in front.server.clients()))
        front.advance(59)
        assert front.in_flight == 1
        front.advance(2)
        await until(lambda: front.in_flight == 0 and engine.open == 0 and not front.shared.clients)
        assert front.counted(499, "client_stalled") == 1


async def test_a_stalled_clients_replica_is_not_blamed_for_its_silence() -> None:
    async def flood(call: Call) -> None:
        call.begin_stream()
        while True:
            call.write(chunk(b"x" * 65_536))
            await call.writer.drain()

    limits = Limits(silence_seconds=1, stall_seconds=1000)
    async with fleet(flood, limits=limits) as (front, _), await front.connect(limit=1) as client:
        client.write(post(stream=True))
        await until(lambda: any(one.flow.write_paused for one in front.server.clients()))
        front.advance(500)
        assert front.in_flight == 1


async def test_a_client_that_asks_much_and_takes_nothing_is_not_read_without_end() -> None:
    async with fleet(answer) as (front, _), await front.connect(limit=1) as client:
        for _ in range(200):
            client.write(get("/v1/models") * 2000)
        await until(lambda: any(one.flow.read_paused for one in front.server.clients()))
        for _ in range(500):
            await asyncio.sleep(0)
        (connection,) = front.server.clients()
        assert connection.transport.get_write_buffer_size() < 2 * front.shared.limits.write_buffer_bytes
        client.reader._limit = 1 << 16  # type: ignore[attr-defined]
        for _ in range(2000):
            assert (await client.reply()).status == 200
        front.advance(1000)
        front.advance(1000)
        await until(lambda: not front.shared.clients)


async def test_a_body_that_is_only_promised_takes_no_memory_from_others() -> None:
    async with fleet(answer, limits=Limits(held_bytes=1000)) as (front, _), await front.connect() as client:
        client.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{")
        await until(lambda: front.shared.held_bytes == 1)
        assert (await front.ask(post())).status == 200
        client.reset()
        await until(lambda: front.shared.held_bytes == 0)


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        pytest.param("x-tokenfleet-continue: off\r\n", False, id="nobody is to go on with it: let go of once it has begun"),
        pytest.param("", True, id="another replica may have to go on with it: held to its end"),
    ],
)
async def test_how_long_the_body_of_a_stream_is_held(headers: str, held: bool) -> None:
    go = asyncio.Event()
    request = post(stream=True, headers=headers)
    body = request.partition(b"\r\n\r\n")[2]

    async def slowly(call: Call) -> None:
        call.begin_stream()
        call.event()
        await go.wait()
        call.end_stream()

    async with fleet(slowly) as (front, (engine,)), await front.connect() as client:
        client.write(request)
        await until(lambda: engine.calls)
        await client.head()
        assert (front.in_flight, front.shared.held_bytes) == (1, len(body) if held else 0)
        go.set()
        await client.reader.readuntil(b"\r\n0\r\n\r\n")
        await until(lambda: front.shared.held_bytes == 0)


async def test_bodies_beyond_the_routers_memory_are_refused_until_there_is_room() -> None:
    go = asyncio.Event()

    async def wait(call: Call) -> None:
        await go.wait()
        await answer(call)

    body = msgspec.json.encode({"model": MODEL, "prompt": "z" * 600})
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body)
    async with fleet(wait, limits=Limits(held_bytes=1000)) as (front, (engine,)), await front.connect() as client:
        client.write(post(body))
        await until(lambda: engine.calls)
        assert front.shared.held_bytes == len(body)
        for raw in (post(body), chunked):
            reply = await front.ask(raw)
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "router_overloaded", "1")
        go.set()
        assert (await client.reply()).status == 200
        assert front.shared.held_bytes == 0
        assert (await front.ask(post(body))).status == 200


async def test_a_body_of_megabytes_goes_through_whole() -> None:
    body = msgspec.json.encode({"model": MODEL, "prompt": "z" * 7_000_000})
    async with fleet(answer) as (front, (engine,)):
        reply = await front.ask(post(body))
        assert msgspec.json.decode(reply.body)["echo"] == len(body)
        assert engine.calls[0].body == body


async def test_ten_thousand_requests_with_random_goodbyes_leave_every_gauge_at_zero() -> None:
    chance = random.Random(7)

    async def moody(call: Call) -> None:
        match chance.randrange(6):
            case 0:
                call.reset()
            case 1:
                call.json({}, status=503, headers="X-Tokenfleet-Draining: 1\r\n")
            case 2:
                call.begin_stream()
                call.event()
                await call.writer.drain()
                call.reset()
            case _:
                await answer(call)

    async with fleet(moody, moody, answer, limits=Limits(losses=3)) as (front, made):
        await asyncio.gather(*(_visitor(front, chance, requests=200) for _ in range(50)))
        await until(lambda: front.in_flight == 0 and not front.shared.clients)
        assert front.shared.held_bytes == 0
        assert front.shared.metrics.requests.total() >= 10_000 * 0.9
        assert front.counted(200, "relayed") > 1000
        assert front.counted(499, "client_gone") > 100
        front.advance(5)
        await until(lambda: front.shared.upstreams.idle_total() == 0 and not any(engine.open for engine in made))


async def _visitor(front: Router, chance: random.Random, *, requests: int) -> None:
    client: Client | None = None
    for _ in range(requests):
        client = client or await front.connect()
        client.write(post(stream=chance.random() < 0.5))
        whole = False
        if chance.random() < 0.7:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                whole = (await client.reply()).whole
        else:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        if not whole:
            client.reset()
            client = None
    if client is not None:
        client.writer.close()
