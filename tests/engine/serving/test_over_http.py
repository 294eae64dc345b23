"""Refusals through a real server: a client that is still sending gets its answer, and its connection."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from tests.engine.serving.stand_ins import Server, StandInEngine
from tokenfleet import contract
from tokenfleet_engine.serving.admission import Admission

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n"


@asynccontextmanager
async def _serving(app: Admission) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", http="httptools", ws="none"))
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, object]]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head, json.loads(await reader.readexactly(length))


@pytest.fixture
async def port(server: Server, engine: StandInEngine, registry: CollectorRegistry) -> AsyncIterator[int]:
    environment = {contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"}
    async with _serving(Admission(server, engine=engine, environment=environment, registry=registry)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD % (2, b"") + b"{}")
        await reader.readuntil(b"data: a\n\n")  # the only place is taken
        yield port
        server.release.set()
        writer.close()


async def test_a_client_that_still_sends_is_answered_and_keeps_its_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"x" * 4_000_000
    writer.write(HEAD % (len(body), b"") + body[:1000])
    head, content = await asyncio.wait_for(_answer(reader), 5)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert "takes 1" in str(content["error"])
    writer.write(body[1000:])
    writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % contract.PATH_ENGINE_LOAD.encode())
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_draining_engine_answers_before_it_closes(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\n\r\n" % contract.PATH_ENGINE_DRAIN.encode())
    await _answer(reader)
    body = b"x" * 4_000_000
    writer.write(HEAD % (len(body), b"") + body[:1000])
    head, _ = await asyncio.wait_for(_answer(reader), 5)
    assert contract.HEADER_DRAINING.encode() in head
    writer.write(body[1000:])
    await writer.drain()
    assert await asyncio.wait_for(reader.read(), 5) == b"", "an orderly end, no reset"
    writer.close()


async def test_a_client_that_expects_100_gets_503_instead(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD % (100, b"expect: 100-continue\r\n"))
    head, _ = await asyncio.wait_for(_answer(reader), 5)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
