"""`tokenfleet scaling record` beside routers that are a few lines on a socket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.router.harness import MODEL, fleet
from tests.router.harness import answer as respond
from tokenfleet import contract
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.scaling.record import Recorder
from tokenfleet.planning.scaling import Signal
from tokenfleet.planning.scaling.trace import read_trace

EVERY = 0.02


def report(waiting: int, in_flight: int, state: str = "routable", name: str = "chat") -> bytes:
    buckets = {"ttft": contract.REPORT_TTFT_BOUNDS, "itl": contract.REPORT_ITL_BOUNDS}
    track = {"requests": 0, "failed": 0} | {key: {"sum": 0, "counts": [0] * (len(of) + 1)} for key, of in buckets.items()}
    levels: dict[str, Any] = {
        "waiting": waiting,
        "pending": 0,
        "running": 0,
        "arrived": 9,
        "idleSeconds": 0.0,
        "replicas": {"a": {"inFlight": in_flight, "state": "routable"}, "b": {"inFlight": 0, "state": state}},
        "tracks": {"stable": track},
    }
    return json.dumps({"router": "r", "leaving": False, "deployments": {name: levels}}).encode() + b"\n"


Send = Callable[[bytes], None]


@asynccontextmanager
async def router(first: bytes, *, status: str = "200 OK") -> AsyncIterator[tuple[str, Send, list[str]]]:
    """Its address, what sends a further line, and the request lines that came."""
    writers, asked = [], []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0])
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n".encode() + first)
        writers.append(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", lambda line: writers[-1].write(line), asked
    finally:
        for writer in writers:
            writer.close()
        server.close()


def recorder(*addresses: str, name: str = "chat", told: list[str] | None = None) -> Recorder:
    return Recorder(name, addresses, clock=time.monotonic, now=time.time, tell=(told if told is not None else []).append)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(EVERY / 2)
    raise AssertionError("it did not come")


def signals(written: list[str]) -> list[Signal | None]:
    return [line.signal for line in read_trace(written)]


async def test_beside_a_whole_router() -> None:
    written: list[str] = []
    async with fleet(respond) as (front, _):
        address = f"127.0.0.1:{front.admin}"
        assert await recorder(address, name=MODEL).lines(written.append, seconds=0.2, every=EVERY) == 1
    assert signals(written) == [Signal(waiting=0, in_flight=0, ready=1)]


async def test_a_line_for_each_change_of_the_load() -> None:
    written: list[str] = []
    async with router(report(0, 2)) as (address, send, asked):
        task = asyncio.create_task(recorder(address).lines(written.append, seconds=None, every=EVERY))
        await until(lambda: len(written) == 1)
        send(report(7, 4, state="unready"))
        await until(lambda: len(written) == 2)
        send(report(7, 4, state="unready") + b"\n")
        await asyncio.sleep(5 * EVERY)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert signals(written) == [
        Signal(waiting=0, in_flight=2, ready=2, idle_seconds=0.0),
        Signal(waiting=7, in_flight=4, ready=1, starting=1, idle_seconds=0.0),
    ]
    assert asked == ["GET /tokenfleet/reports HTTP/1.1"]


async def test_two_routers_are_added_up_and_nothing_is_written_before_both_have_told() -> None:
    written: list[str] = []
    async with router(report(1, 2)) as (one, _, _), router(b"\n") as (other, send, _):
        task = asyncio.create_task(recorder(one, f"http://{other}").lines(written.append, seconds=None, every=EVERY))
        await asyncio.sleep(10 * EVERY)
        assert written == []
        send(report(2, 3))
        await until(lambda: bool(written))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert signals(written) == [Signal(waiting=3, in_flight=5, ready=2, idle_seconds=0.0)]


async def test_it_ends_when_its_time_is_over() -> None:
    async with router(report(0, 0)) as (address, _, _):
        assert await recorder(address).lines(lambda _: None, seconds=0.1, every=EVERY) == 1


async def test_a_router_that_is_not_there_is_told_once() -> None:
    told: list[str] = []
    assert await recorder("127.0.0.1:1", told=told).lines(lambda _: None, seconds=1.2, every=EVERY) == 0
    assert len(told) == 1
    assert told[0].startswith("http://127.0.0.1:1/tokenfleet/reports: ")
    assert told[0].endswith(" It is tried again.")


async def test_a_report_of_very_many_replicas_is_one_line() -> None:
    written: list[str] = []
    replicas = {f"replica-{number:06}": {"inFlight": 1, "state": "routable"} for number in range(8_000)}
    long = json.loads(report(0, 0))
    long["deployments"]["chat"]["replicas"] = replicas
    async with router(json.dumps(long).encode() + b"\n") as (address, _, _):
        task = asyncio.create_task(recorder(address).lines(written.append, seconds=None, every=EVERY))
        await until(lambda: bool(written))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [signal.in_flight for signal in signals(written) if signal is not None] == [8_000]


async def test_another_model_than_the_routers() -> None:
    async with router(report(0, 0)) as (address, _, _):
        with pytest.raises(CliError) as refused:
            await recorder(address, name="code").lines(lambda _: None, seconds=5, every=EVERY)
    assert str(refused.value) == f"The router at http://{address}/tokenfleet/reports has no LLMDeployment code; it has: chat."


async def test_another_port_than_the_admin_port() -> None:
    async with router(b"", status="404 Not Found") as (address, _, _):
        with pytest.raises(CliError) as refused:
            await recorder(address).lines(lambda _: None, seconds=5, every=EVERY)
    assert str(refused.value).endswith("answered 404: is this the admin port of a router, 9090?")


def test_what_is_no_address() -> None:
    with pytest.raises(Unusable):
        recorder("ftp://router")


async def test_a_router_that_falls_silent_is_missing_and_not_nought() -> None:
    written: list[str] = []
    late = [0.0]
    async with router(report(0, 2)) as (address, send, _):
        silent = Recorder("chat", [address], clock=lambda: time.monotonic() + late[0], now=time.time, tell=lambda _: None)
        task = asyncio.create_task(silent.lines(written.append, seconds=None, every=EVERY))
        await until(lambda: len(written) == 1)
        late[0] = contract.REPORT_STALE_SECONDS + 1
        await until(lambda: len(written) == 2)
        send(report(0, 2))
        await until(lambda: len(written) == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    known = Signal(waiting=0, in_flight=2, ready=2, idle_seconds=0.0)
    assert signals(written) == [known, None, known]
