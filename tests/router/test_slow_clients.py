"""Clients that take their time on purpose, many at once: each ends by its own deadline, and good traffic never notices."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.router.harness import MODEL, Call, Client, Engine, Router, answer, chunk, fleet, post, until

CROWD = 40
READERS = 10
"""Each fills what the sockets on its way hold, which is megabytes."""
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
FLOOD = post({"model": MODEL, "prompt": "flood", "stream": True})


async def engine(call: Call) -> None:
    if b"flood" not in call.body:
        await answer(call)
        return
    call.begin_stream()
    while True:
        call.write(chunk(b"x" * 65_536))
        await call.writer.drain()


@contextlib.asynccontextmanager
async def crowd(front: Router, sent: bytes, *, size: int = CROWD, limit: int = 1 << 16) -> AsyncIterator[list[Client]]:
    """Clients that have sent this much, and leave it there."""
    clients = [await front.connect(limit=limit) for _ in range(size)]
    for client in clients:
        client.write(sent)
    try:
        yield clients
    finally:
        for client in clients:
            client.reset()


def states(front: Router) -> list[str]:
    return [client.state.value for client in front.server.clients()]


async def good_traffic(front: Router, engines: list[Engine]) -> None:
    """As many requests and streams as there are slow clients, all of them answered whole."""
    before = sum(len(one.calls) for one in engines)
    async with await front.connect() as client:
        for number in range(CROWD):
            client.write(post(stream=number % 2 == 0))
            reply = await client.reply()
            assert (reply.status, reply.whole) == (200, True)
    assert sum(len(one.calls) for one in engines) == before + CROWD


@pytest.mark.parametrize(
    ("sent", "state", "drip", "seconds"),
    [
        pytest.param(HEAD + b"X: ", "head", b"y", 10, id="heads, letter by letter"),
        pytest.param(HEAD, "head", b"X: y\r\n", 10, id="heads, line by line"),
        pytest.param(HEAD + b"Content-Length: 900\r\n\r\n{", "body", b" ", 60, id="bodies with a length"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", "body", b"1\r\n \r\n", 60, id="bodies in chunks"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", "body", b"a", 60, id="a chunk's extension without end"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", "body", b"X: y\r\n", 60, id="trailers without end"),
    ],
)
async def test_slow_senders_get_408_however_steadily_they_drip(sent: bytes, state: str, drip: bytes, seconds: int) -> None:
    async with fleet(engine, engine) as (front, engines), crowd(front, sent) as slow:
        await until(lambda: states(front).count(state) == CROWD)
        await good_traffic(front, engines)
        for _ in range(seconds - 1):
            for client in slow:
                client.write(drip)
            front.advance(1)
        await good_traffic(front, engines)
        assert states(front).count(state) == CROWD
        front.advance(1.5)
        for client in slow:
            reply = await client.reply()
            assert (reply.status, reply.error["message"]) == (408, f"The request's {state} did not come in time.")
        front.advance(3)
        assert all([await client.closed() for client in slow])
        await good_traffic(front, engines)
        assert front.shared.held_bytes == 0


async def test_those_who_only_connect_are_let_go() -> None:
    async with fleet(engine) as (front, engines), crowd(front, b"") as silent:
        await until(lambda: len(front.shared.clients) == CROWD)
        await good_traffic(front, engines)
        front.advance(9)
        assert states(front).count("waiting") >= CROWD
        front.advance(1.5)
        assert all([await client.closed() for client in silent])


async def test_slow_readers_are_given_up_and_their_replicas_with_them() -> None:
    async with fleet(engine, engine) as (front, engines), crowd(front, FLOOD, size=READERS, limit=1):
        await until(lambda: sum(one.flow.write_paused for one in front.server.clients()) == READERS)
        assert front.in_flight == READERS
        await good_traffic(front, engines)
        front.advance(59)
        await good_traffic(front, engines)
        assert front.in_flight == READERS
        front.advance(2)
        await until(lambda: front.in_flight == 0)
        assert front.counted(499, "client_stalled") == READERS
        await good_traffic(front, engines)
        await until(lambda: sum(one.open for one in engines) <= len(engines))


async def test_a_slow_reader_that_reads_on_is_not_given_up() -> None:
    async with fleet(engine) as (front, _), await front.connect(limit=1) as client:
        client.write(FLOOD)
        for _ in range(5):
            await until(lambda: all(one.flow.write_paused for one in front.server.clients()))
            front.advance(59)
            client.reader._limit = 1 << 20  # type: ignore[attr-defined]
            while any(one.flow.write_paused for one in front.server.clients()):
                await client.reader.readexactly(65_536)
            client.reader._limit = 1  # type: ignore[attr-defined]
        assert front.in_flight == 1
