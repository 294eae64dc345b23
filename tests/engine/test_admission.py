"""Admission, driven as a server drives it: messages in, messages out, no server."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest

from tokenfleet import contract
from tokenfleet_engine.serving.admission import Admission, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", 50000)
ROUTER = ("10.1.2.3", 50000)


class Server:
    """Stands where vLLM stands: /health answers with `health`; a POST streams until `release` is set."""

    def __init__(self, *, health: int = 200) -> None:
        self.health = health
        self.health_delay: float = 0
        self.release = asyncio.Event()
        self.entered: list[str] = []
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self.entered.append(scope["type"])
            return
        self.entered.append(f"{scope['method']} {scope['path']}")
        if scope["path"] == contract.PATH_ENGINE_LIVE:
            await asyncio.sleep(self.health_delay)
            await send({"type": "http.response.start", "status": self.health, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: a\n\n", "more_body": True})
        await self.release.wait()
        if self.failure is not None:
            raise self.failure
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class Client:
    """Makes requests to one Admission."""

    def __init__(self, app: Admission) -> None:
        self._app = app

    async def __call__(self, method: str, path: str, *, peer: tuple[str, int] = ROUTER, kind: str = "http") -> "Answer":
        scope: dict[str, Any] = {"type": kind, "path": path, "client": peer, "headers": []}
        if kind == "http":
            scope["method"] = method
        answer = Answer()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            answer.messages.append(message)

        await self._app(scope, receive, send)
        return answer

    async def load(self) -> dict[str, Any]:
        return dict((await self("GET", contract.PATH_ENGINE_LOAD)).json())


class Answer:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    def json(self) -> Any:
        return json.loads(self.body)


async def _begin(request: Awaitable[Answer], count: int = 1) -> "asyncio.Task[Answer]":
    task = asyncio.ensure_future(request)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def client(server: Server, now: list[float]) -> Client:
    return Client(Admission(server, clock=lambda: now[0]))


async def test_a_stream_counts_from_its_first_byte_to_its_last(server: Server, client: Client) -> None:
    stream = await _begin(client("POST", "/v1/chat/completions"))
    assert await client.load() == {"draining": False, "in_flight": 1}
    server.release.set()
    assert (await stream).body == b"data: a\n\ndata: [DONE]\n\n"
    assert await client.load() == {"draining": False, "in_flight": 0}


async def test_an_answer_says_how_many_are_in_flight_as_it_begins(server: Server, client: Client) -> None:
    first = await _begin(client("POST", "/v1/chat/completions"))
    second = await _begin(client("POST", "/v1/completions"))
    uncounted = await _begin(client("POST", "/tokenize"))
    server.release.set()
    answers = [await first, await second, await uncounted]
    assert [answer.headers.get(contract.HEADER_IN_FLIGHT) for answer in answers] == ["1", "2", None]
    again = await client("POST", "/v1/completions")
    assert again.headers == {"content-type": "text/event-stream", contract.HEADER_IN_FLIGHT: "1"}


async def test_a_client_that_goes_away_is_no_longer_counted(client: Client) -> None:
    stream = await _begin(client("POST", "/v1/completions"))
    stream.cancel()  # as uvicorn's response does to the server's task
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert (await client.load())["in_flight"] == 0


async def test_a_request_that_fails_is_no_longer_counted(server: Server, client: Client) -> None:
    server.failure = RuntimeError("engine died")
    server.release.set()
    with pytest.raises(RuntimeError, match="engine died"):
        await client("POST", "/v1/completions")
    assert (await client.load())["in_flight"] == 0


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        pytest.param("POST", "/v1/chat/completions", True, id="chat"),
        pytest.param("POST", "/v1/embeddings", True, id="embeddings"),
        pytest.param("POST", "/pooling", True, id="pooling stands outside of /v1"),
        pytest.param("POST", "/v2/new", True, id="a path that nobody here knows counts, so that no drain cuts it"),
        pytest.param("GET", "/v1/models", False, id="a list of models costs nothing"),
        pytest.param("POST", "/tokenize", False, id="tokenizing is no generation"),
        pytest.param("POST", "/v1/load_lora_adapter", False, id="administration is no generation"),
    ],
)
async def test_what_counts(client: Client, method: str, path: str, counted: bool) -> None:
    request = await _begin(client(method, path))
    assert (await client.load())["in_flight"] == int(counted)
    request.cancel()


async def test_a_drain_refuses_new_requests_and_lets_running_ones_finish(server: Server, client: Client) -> None:
    stream = await _begin(client("POST", "/v1/chat/completions"))
    drained = await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    assert (drained.status, drained.json()) == (200, {"draining": True, "in_flight": 1, "draining_seconds": 0.0})

    refused = await client("POST", "/v1/chat/completions")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers[contract.HEADER_DRAINING] == "true"
    assert refused.headers["connection"] == "close"
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert server.entered.count("POST /v1/chat/completions") == 1

    server.release.set()
    assert (await stream).body.endswith(b"[DONE]\n\n")


async def test_a_drain_counts_from_its_first_call(client: Client, now: list[float]) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    now[0] += 7
    again = await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    assert again.json()["draining_seconds"] == 7.0


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        pytest.param(LOOPBACK, 200, id="the pod itself"),
        pytest.param(("127.8.9.1", 1), 200, id="any address of the loopback net"),
        pytest.param(("::1", 1), 200, id="loopback of IPv6"),
        pytest.param(ROUTER, 403, id="another pod"),
        pytest.param(("testclient", 1), 403, id="a peer that is no address"),
        pytest.param(None, 403, id="a peer that is unknown"),
    ],
)
async def test_only_the_pod_itself_may_drain(client: Client, peer: Any, status: int) -> None:
    assert (await client("POST", contract.PATH_ENGINE_DRAIN, peer=peer)).status == status
    assert (await client.load())["draining"] is (status == 200)


async def test_a_forwarded_address_does_not_make_a_peer_local(server: Server) -> None:
    app, sent = Admission(server), []
    headers = [(b"x-forwarded-for", b"127.0.0.1"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": contract.PATH_ENGINE_DRAIN, "client": ROUTER, "headers": headers}

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize(
    ("health", "draining", "status", "reason"),
    [
        pytest.param(200, False, 200, None, id="healthy"),
        pytest.param(503, False, 503, "EngineUnhealthy", id="vLLM says that it is not healthy"),
        pytest.param(200, True, 503, "Draining", id="healthy and draining"),
    ],
)
async def test_ready(server: Server, client: Client, health: int, draining: bool, status: int, reason: str | None) -> None:
    server.health = health
    if draining:
        await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    answer = await client("GET", contract.PATH_ENGINE_READY)
    assert (answer.status, answer.json().get("reason")) == (status, reason)


async def test_ready_asks_vllm_on_its_own_path(server: Server, client: Client) -> None:
    await client("GET", contract.PATH_ENGINE_READY)
    assert server.entered == [f"GET {contract.PATH_ENGINE_LIVE}"]


async def test_ready_does_not_wait_for_ever(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenfleet_engine.serving.admission.HEALTH_SECONDS", 0.0)
    server.health_delay = 3600
    answer = await client("GET", contract.PATH_ENGINE_READY)
    assert (answer.status, answer.json()["reason"]) == (503, "HealthTimeout")


async def test_lifespan_passes_through(server: Server, client: Client) -> None:
    await client("", "", kind="lifespan")
    assert server.entered == ["lifespan"]


async def test_a_websocket_is_refused_while_draining(server: Server, client: Client) -> None:
    await client("", "/v1/realtime", kind="websocket")
    assert server.entered == ["websocket"]
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    refused = await client("", "/v1/realtime", kind="websocket")
    assert refused.messages == [{"type": "websocket.close", "code": 1012}]


async def test_many_at_once_come_out_even(server: Server, client: Client) -> None:
    requests = [await _begin(client("POST", "/v1/completions")) for _ in range(50)]
    assert (await client.load())["in_flight"] == 50
    for request in requests[::2]:
        request.cancel()
    server.release.set()
    await asyncio.gather(*requests, return_exceptions=True)
    assert (await client.load())["in_flight"] == 0
