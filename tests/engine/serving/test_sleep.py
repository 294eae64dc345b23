"""Falling asleep and waking, through admission, with an engine that does as it is told."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.engine.serving.stand_ins import LOOPBACK, Answer, Client, Server, StandInEngine, begin
from tokenfleet import contract
from tokenfleet_engine.commands import sleep, wake
from tokenfleet_engine.main import main


async def _sleep(client: Client) -> Answer:
    return await client("POST", contract.PATH_ENGINE_SLEEP, peer=LOOPBACK)


async def _wake(client: Client) -> Answer:
    return await client("POST", contract.PATH_ENGINE_WAKE, peer=LOOPBACK)


@pytest.fixture
def quick(engine: StandInEngine) -> StandInEngine:
    engine.step.set()
    return engine


async def test_asleep_it_takes_no_requests_and_is_not_ready(quick: StandInEngine, server: Server, client: Client) -> None:
    slept = await _sleep(client)
    assert (slept.status, slept.json(), quick.asleep) == (200, {"sleeping": True}, True)
    refused = await client("POST", "/v1/completions")
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    assert contract.HEADER_DRAINING not in refused.headers
    assert (await client("GET", contract.PATH_ENGINE_READY)).json() == {"ready": False, "reason": "Sleeping"}
    assert (await client.load())["sleeping"] is True
    assert server.entered == []


async def test_awake_again_it_is_ready_once_it_has_made_a_token(quick: StandInEngine, server: Server, client: Client) -> None:
    await client("GET", contract.PATH_ENGINE_READY)
    await _sleep(client)
    woken = await _wake(client)
    assert (woken.status, woken.json(), quick.asleep) == (200, {"sleeping": False}, False)
    assert (await client("GET", contract.PATH_ENGINE_READY)).status == 200
    assert len(server.asked) == 2


async def test_both_may_be_asked_for_twice(quick: StandInEngine, client: Client) -> None:
    answers = [await _sleep(client), await _sleep(client), await _wake(client), await _wake(client)]
    assert [answer.status for answer in answers] == [200] * 4
    assert quick.calls == ["sleep", "wake"]


async def test_a_wake_waits_for_one_that_is_falling_asleep(engine: StandInEngine, client: Client) -> None:
    falling = await begin(_sleep(client))
    assert (await client("POST", "/v1/completions")).status == 503, "from the moment that sleep was asked for"
    waking = await begin(_wake(client))
    assert engine.calls == ["sleep"]
    engine.step.set()
    assert [(await falling).status, (await waking).status] == [200, 200]
    assert engine.calls == ["sleep", "wake"]
    assert (await client.load())["sleeping"] is False


async def test_with_requests_in_flight_it_may_not_sleep(quick: StandInEngine, server: Server, client: Client) -> None:
    running = await begin(client("POST", "/v1/completions"))
    refused = await _sleep(client)
    assert (refused.status, refused.json()["error"]["type"]) == (409, "conflict")
    assert "1 requests in flight" in refused.json()["error"]["message"]
    assert quick.calls == []
    server.release.set()
    assert (await running).status == 200


async def test_draining_it_may_not_sleep(quick: StandInEngine, client: Client) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    assert (await _sleep(client)).status == 409


async def test_while_it_makes_its_first_token_it_may_not_sleep(quick: StandInEngine, server: Server, client: Client) -> None:
    server.token.clear()
    probe = await begin(client("GET", contract.PATH_ENGINE_READY))
    await server.warming_up.wait()
    assert (await _sleep(client)).status == 409
    server.token.set()
    assert (await probe).status == 200


async def test_where_vllm_cannot_it_says_why(engine: StandInEngine, client: Client) -> None:
    engine.no_sleep = "Set spec.engine.sleep to true."
    for refused in (await _sleep(client), await _wake(client)):
        assert refused.status == 501
        assert refused.json()["error"] == {
            "message": "Set spec.engine.sleep to true.", "type": "not_implemented", "param": None, "code": 501,
        }  # fmt: skip


async def test_a_sleep_that_fails_leaves_it_awake(quick: StandInEngine, server: Server, client: Client) -> None:
    quick.failure = RuntimeError("out of host memory")
    failed = await _sleep(client)
    assert (failed.status, failed.json()["error"]["message"]) == (500, "The engine could not fall asleep: out of host memory")
    server.release.set()
    assert (await client("POST", "/v1/completions")).status == 200


async def test_a_wake_that_fails_leaves_it_asleep_and_may_be_tried_again(quick: StandInEngine, client: Client) -> None:
    await _sleep(client)
    quick.failure = RuntimeError("no memory")
    assert (await _wake(client)).status == 500
    assert (await client.load())["sleeping"] is True
    quick.failure, quick.wakes_wholly = None, False
    assert "Not all" in (await _wake(client)).json()["error"]["message"]
    quick.wakes_wholly = True
    assert (await _wake(client)).status == 200


@pytest.mark.parametrize("path", [contract.PATH_ENGINE_SLEEP, contract.PATH_ENGINE_WAKE])
async def test_only_the_pod_itself_may(quick: StandInEngine, client: Client, path: str) -> None:
    assert (await client("POST", path)).status == 403
    assert quick.calls == []


async def test_a_caller_that_leaves_does_not_end_it_half_way(engine: StandInEngine, client: Client) -> None:
    falling = await begin(_sleep(client))
    engine.step.set()
    await asyncio.sleep(0)
    assert (await falling).status == 200
    assert engine.asleep


class _Engine(BaseHTTPRequestHandler):
    """Answers with the server's `answer`."""

    def do_POST(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def listening() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Engine) as server:
        server.seen = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "path", "said"),
    [
        pytest.param("sleep", contract.PATH_ENGINE_SLEEP, sleep.ASLEEP, id="sleep"),
        pytest.param("wake", contract.PATH_ENGINE_WAKE, wake.AWAKE, id="wake"),
    ],
)
def test_the_commands_say_what_became_of_it(
    listening: HTTPServer, capsys: pytest.CaptureFixture[str], command: str, path: str, said: str
) -> None:
    argv = [command, "--port", str(listening.server_port)]
    listening.answer = (200, b'{"sleeping": true}')  # type: ignore[attr-defined]
    assert main(argv) == 0
    assert said in capsys.readouterr().out
    listening.answer = (409, b'{"error": {"message": "2 requests in flight"}}')  # type: ignore[attr-defined]
    assert main(argv) == 1
    assert capsys.readouterr().err == "tokenfleet-engine: 2 requests in flight\n"
    assert listening.seen == [path, path]  # type: ignore[attr-defined]


def test_a_command_where_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Engine)
    port = server.server_port
    server.server_close()
    assert main(["wake", "--port", str(port)]) == 1
    assert f"no engine serves on port {port}" in capsys.readouterr().err
