"""Goodbyes: what SIGTERM does to clients, to running streams and to the process."""

import asyncio
import logging
import os
import signal
import sys

import pytest

from tests.router.harness import DONE, Call, Client, answer, engines, fleet, get, post, until
from tokenfleet.router.main import main


async def test_leaving_answers_ask_for_a_new_connection_and_streams_run_to_their_end() -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        if b'"stream":true' not in call.body:
            await answer(call)
            return
        call.begin_stream()
        call.event()
        await go.wait()
        call.end_stream()

    async with fleet(slowly) as (front, _), await front.connect() as running, await front.connect() as idle:
        idle.write(post())
        assert "connection" not in (await idle.reply()).headers
        running.write(post(stream=True))
        await running.head()
        leaving = asyncio.create_task(front.server.leave(lame_duck_seconds=0.2, drain_seconds=30))
        await until(lambda: front.shared.leaving)
        reply = await front.ask(post())
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert (await front.ask(get("/v1/models"))).headers["connection"] == "close"
        assert await idle.closed()
        with pytest.raises(ConnectionRefusedError):
            await front.connect()
        assert not leaving.done()
        go.set()
        assert DONE in await running.reader.readuntil(b"\r\n0\r\n\r\n")
        await asyncio.wait_for(leaving, 10)
        assert await running.closed()


async def test_a_request_that_follows_an_answer_which_promised_to_keep_the_connection_is_answered() -> None:
    """Its client may have sent it before it could see a goodbye."""
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        if b'"stream":true' not in call.body:
            await answer(call)
            return
        call.begin_stream()
        call.event()
        await go.wait()
        call.end_stream()

    async with fleet(slowly) as (front, _), await front.connect() as client:
        client.write(post(stream=True))
        await client.head()
        leaving = asyncio.create_task(front.server.leave(lame_duck_seconds=0, drain_seconds=30))
        await until(lambda: front.shared.leaving and not front.server.listening)
        go.set()
        assert DONE in await client.reader.readuntil(b"\r\n0\r\n\r\n")
        await asyncio.sleep(0.2)  # longer than the router looks for idle connections
        client.write(post())
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await client.closed()
        await asyncio.wait_for(leaving, 10)


async def test_what_outlasts_the_drain_is_cut() -> None:
    async def endless(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    async with fleet(endless) as (front, (engine,)), await front.connect() as client:
        client.write(post(stream=True))
        await client.head()
        await front.server.leave(lame_duck_seconds=0, drain_seconds=0)
        assert front.in_flight == 1
        front.server.stop()
        await until(lambda: front.in_flight == 0 and engine.open == 0)
        assert front.counted(499, "shutdown") == 1


class Process:
    """A router in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin: int) -> None:
        self.process, self.port, self.admin = process, port, admin

    @classmethod
    async def start(cls, replica: int, **environment: str) -> "Process":
        settings = {
            "TOKENFLEET_ROUTER_STATIC_REPLICAS": f"127.0.0.1:{replica}",
            "TOKENFLEET_ROUTER_STATIC_MODEL": "llama",
            "TOKENFLEET_ROUTER_HOST": "127.0.0.1",
            "TOKENFLEET_ROUTER_PORT": "0",
            "TOKENFLEET_ROUTER_ADMIN_PORT": "0",
            **environment,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tokenfleet.router.main",
            env={**os.environ, **settings},
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        while b"serving static on port" not in (line := await process.stderr.readline()):
            assert line, "the router died"
        words = line.decode().replace(",", "").replace('"', "").split()
        return cls(process, int(words[words.index("port") + 1]), int(words[-1]))

    async def says(self, words: bytes) -> None:
        """Return once it has logged these words."""
        assert self.process.stderr is not None
        while words not in (line := await self.process.stderr.readline()):
            assert line, "the router ended"

    async def client(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))


async def test_sigterm_lets_a_stream_finish_and_exits_0() -> None:
    go = asyncio.Event()

    async def slowly(call: Call) -> None:
        call.begin_stream()
        call.event()
        await go.wait()
        call.end_stream()

    async with engines(slowly) as (engine,):
        one = await Process.start(engine.port, TOKENFLEET_ROUTER_LAME_DUCK_SECONDS="0")
        client = await one.client()
        client.write(post(stream=True))
        await client.head()
        one.process.send_signal(signal.SIGTERM)
        await one.says(b"no new connections")
        go.set()
        assert DONE in await asyncio.wait_for(client.reader.readuntil(b"\r\n0\r\n\r\n"), 10)
        assert await asyncio.wait_for(one.process.wait(), 10) == 0


async def test_a_second_sigterm_ends_it_at_once() -> None:
    async def endless(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    async with engines(endless) as (engine,):
        one = await Process.start(engine.port)
        client = await one.client()
        client.write(post(stream=True))
        await client.head()
        one.process.send_signal(signal.SIGTERM)
        await one.says(b"leaving")
        one.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(one.process.wait(), 10) == 0
        await until(lambda: engine.open == 0)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({"TOKENFLEET_ROUTER_PORT": "x"}, "TOKENFLEET_ROUTER_PORT='x' is not a whole number.", id="port"),
        pytest.param({"TOKENFLEET_LOG_LEVEL": "loud"}, "TOKENFLEET_LOG_LEVEL='loud' is not one of", id="log level"),
        pytest.param({"TOKENFLEET_ROUTER_STATIC_REPLICAS": "here"}, "'here', which is not host:port", id="replicas"),
        pytest.param({"TOKENFLEET_ROUTER_STATIC_MODEL": ""}, "TOKENFLEET_ROUTER_STATIC_MODEL is not set", id="model"),
        pytest.param({"TOKENFLEET_ROUTER_HOST": "192.0.2.1"}, "Cannot listen on 192.0.2.1, port 0: ", id="host"),
        pytest.param(
            {"TOKENFLEET_ROUTER_STATIC_REPLICAS": "", "KUBECONFIG": "/nowhere", "TOKENFLEET_NAMESPACE": "a"},
            "TOKENFLEET_DEPLOYMENT is not set",
            id="no deployment",
        ),
        pytest.param(
            {
                "TOKENFLEET_ROUTER_STATIC_REPLICAS": "",
                "KUBECONFIG": "/nowhere",
                "TOKENFLEET_NAMESPACE": "a",
                "TOKENFLEET_DEPLOYMENT": "b",
            },
            "No way to the Kubernetes API",
            id="no API",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_told_and_exit_2(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    base = {
        "TOKENFLEET_ROUTER_STATIC_REPLICAS": "127.0.0.1:1",
        "TOKENFLEET_ROUTER_STATIC_MODEL": "llama",
        "TOKENFLEET_ROUTER_PORT": "0",
        "TOKENFLEET_ROUTER_ADMIN_PORT": "0",
        "HOME": "/nowhere",
    }
    for name, value in {**base, **environment}.items():
        monkeypatch.setenv(name, value)
    handlers = logging.root.handlers[:]
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        logging.root.handlers[:] = handlers
    told = capfd.readouterr().err
    assert caught.value.code == 2
    assert message in told
    assert "Traceback" not in told
