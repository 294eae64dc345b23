"""What stands around admission in tests: a server behind it, a client before it, an engine with a sleep of its own."""

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from tokenfleet import contract
from tokenfleet_engine.serving.asgi import App, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", 50000)
ROUTER = ("10.1.2.3", 50000)
TOKEN = (200, {"usage": {"prompt_tokens": 1, "completion_tokens": 1}})


class Server:
    """Stands where vLLM stands: /health answers with `health`; a POST streams `parts` until `release` is set.

    A completion of one token is a warm-up: it is answered with `first_token` while `token` is set.
    """

    def __init__(self, *, health: int = 200) -> None:
        self.health = health
        self.health_delay: float = 0
        self.first_token: tuple[int, object] = TOKEN
        self.token = asyncio.Event()
        self.token.set()
        self.warming_up = asyncio.Event()
        self.release = asyncio.Event()
        self.entered: list[str] = []
        self.asked: list[Any] = []
        self.failure: Exception | None = None
        self.status = 200
        self.parts = [b"data: a\n\n", b"data: [DONE]\n\n"]
        self.disconnected = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self.entered.append(scope["type"])
            return
        self.entered.append(f"{scope['method']} {scope['path']}")
        if scope["path"] == contract.PATH_ENGINE_LIVE:
            await asyncio.sleep(self.health_delay)
            await _answer(send, self.health, b"")
            return
        content = json.loads((await receive())["body"] or b"{}")
        if content.get("max_tokens") == 1:
            self.asked.append(content)
            self.warming_up.set()
            await self.token.wait()
            await _answer(send, self.first_token[0], json.dumps(self.first_token[1]).encode())
            return
        await self._stream(receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        """As starlette does it: whoever leaves ends the stream."""
        first, *rest = self.parts
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": first, "more_body": bool(rest)})
        if not rest:
            return
        released, left = asyncio.ensure_future(self.release.wait()), asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({released, left}, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                self.disconnected = True
                return
        finally:
            released.cancel()
            left.cancel()
        if self.failure is not None:
            raise self.failure
        for part in rest[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": rest[-1]})


class Client:
    """Makes requests to one application: admission."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        peer: tuple[str, int] | None = ROUTER,
        kind: str = "http",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        body: "Body | None" = None,
        answer: "Answer | None" = None,
    ) -> "Answer":
        """`answer` fills while it comes."""
        scope: dict[str, Any] = {"type": kind, "path": path, "client": peer, "headers": list(headers)}
        if kind == "http":
            scope["method"] = method
        received = answer or Answer()

        async def send(message: Message) -> None:
            received.messages.append(dict(message))

        await self._app(scope, body or Body(), send)
        return received

    async def load(self) -> dict[str, Any]:
        return dict((await self("GET", contract.PATH_ENGINE_LOAD)).json())


@dataclass
class Body:
    """What a client sends: `parts`, and then nothing more until it leaves."""

    parts: list[bytes] = field(default_factory=lambda: [b""])
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> Message:
        if self.parts:
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts)}
        await self.left.wait()
        return {"type": "http.disconnect"}


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


@dataclass
class StandInEngine:
    """Serves `names`. Its steps into sleep and out of it wait for `step`."""

    names: tuple[str, ...] = ("demo",)
    max_sequences: int | None = None
    no_sleep: str | None = None
    asleep: bool = False
    calls: list[str] = field(default_factory=list)
    step: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    wakes_wholly: bool = True

    def models(self) -> tuple[str, ...]:
        return self.names

    async def sleep(self) -> None:
        await self._do("sleep")
        self.asleep = True

    async def wake(self) -> bool:
        await self._do("wake")
        self.asleep = not self.wakes_wholly
        return self.wakes_wholly

    async def is_sleeping(self) -> bool:
        return self.asleep

    async def _do(self, name: str) -> None:
        self.calls.append(name)
        await self.step.wait()
        if self.failure is not None:
            raise self.failure


async def begin(request: Awaitable[Answer]) -> "asyncio.Task[Answer]":
    """Let it get as far as it can."""
    task = asyncio.ensure_future(request)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
