"""ASGI middleware around vLLM's whole server: who gets in, how many are in, and how the server goes away.

vLLM loads it by its own `--middleware` flag, so it is a plain class, with no web framework and no vLLM. It counts the
requests that make the model work, from the first byte to the last, whatever ends them; writes the count on their answers, so
that routers see each other's load; refuses new ones while it drains; and answers three paths itself. Paths are compared as they
came (scope["path"]), never by a URL that is put together from the client's Host header. It must not look into bodies. All
state belongs to the one event loop that runs the server.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from tokenfleet import contract

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNCOUNTED_POSTS: Final = frozenset(
    {
        "/detokenize",
        "/is_paused",
        "/is_sleeping",
        "/pause",
        "/reset_encoder_cache",
        "/reset_mm_cache",
        "/reset_prefix_cache",
        "/resume",
        "/sleep",
        "/start_profile",
        "/stop_profile",
        "/tokenize",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/wake_up",
    }
)
"""What does not make the model work. All other POSTs count: a path that we do not know must not be cut by a drain."""

_IN_FLIGHT: Final = contract.HEADER_IN_FLIGHT.encode()
HEALTH_SECONDS: Final = 5.0
RETRY_AFTER_SECONDS: Final = 1
"""Of a draining replica's 503: another one may take the request at once, but HTTP knows no zero that all clients honour."""


class Admission:
    """vllm … --middleware tokenfleet_engine.serving.admission.Admission"""

    def __init__(self, app: App, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._in_flight = 0
        self._draining_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._admit(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (answer := self._answers.get((scope["method"], scope["path"]))) is not None:
            await answer(self, scope, send)
        elif scope["method"] == "POST" and scope["path"] not in UNCOUNTED_POSTS:
            await self._admit(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._draining_since is not None:  # no await between this look and the count: nobody slips in
            await (_send_draining(send) if scope["type"] == "http" else send({"type": "websocket.close", "code": 1012}))
            return
        with self._lease():
            await self._app(scope, receive, self._counted(send))

    def _counted(self, send: Send) -> Send:
        """With the requests in flight, this one included, on the answer's head."""

        def counted(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (_IN_FLIGHT, b"%d" % self._in_flight)]
                message = {**message, "headers": headers}
            return send(message)

        return counted

    @contextmanager
    def _lease(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _answer_ready(self, scope: Scope, send: Send) -> None:
        if self._draining_since is not None:
            await _send_json(send, 503, {"ready": False, "reason": "Draining"})
            return
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                status = await self._health(scope)
        except TimeoutError:
            await _send_json(send, 503, {"ready": False, "reason": "HealthTimeout"})
            return
        if status == 200:
            await _send_json(send, 200, {"ready": True})
        else:
            await _send_json(send, 503, {"ready": False, "reason": "EngineUnhealthy", "status": status})

    async def _health(self, scope: Scope) -> int:
        """The status that vLLM itself answers on its health path."""
        path = contract.PATH_ENGINE_LIVE
        inner = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        status = 500

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await self._app(inner, receive, send)
        return status

    async def _answer_drain(self, scope: Scope, send: Send) -> None:
        if not _from_loopback(scope):
            await _send_error(send, 403, "permission_denied", "Draining is for this pod's own preStop hook.")
            return
        if self._draining_since is None:
            self._draining_since = self._clock()
        await self._answer_load(scope, send)

    async def _answer_load(self, _: Scope, send: Send) -> None:
        since = self._draining_since
        load: dict[str, Any] = {"draining": since is not None, "in_flight": self._in_flight}
        if since is not None:
            load["draining_seconds"] = round(self._clock() - since, 3)
        await _send_json(send, 200, load)

    _answers: Final[dict[tuple[str, str], Callable[["Admission", Scope, Send], Awaitable[None]]]] = {
        ("GET", contract.PATH_ENGINE_READY): _answer_ready,
        ("GET", contract.PATH_ENGINE_LOAD): _answer_load,
        ("POST", contract.PATH_ENGINE_DRAIN): _answer_drain,
    }


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _send_draining(send: Send) -> None:
    await _send_error(
        send, 503, "service_unavailable", "This replica is going away. Send the request again: another one takes it.",
        (b"retry-after", str(RETRY_AFTER_SECONDS).encode()),
        (contract.HEADER_DRAINING.encode(), b"true"),
        (b"connection", b"close"),
    )  # fmt: skip


async def _send_error(send: Send, status: int, kind: str, message: str, *headers: tuple[bytes, bytes]) -> None:
    """In the shape that OpenAI's clients read."""
    error = {"message": message, "type": kind, "param": None, "code": status}
    await _send_json(send, status, {"error": error}, *headers)


async def _send_json(send: Send, status: int, content: object, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(content).encode()
    length = str(len(body)).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
