"""Asks an engine for completions and times every token as it comes: the client of the engine's benchmark.

A bare protocol around httptools: the client shares two cores with the engine, and what it costs would be measured too. Each
request asks for an exact number of tokens (`ignore_eos`), so that two engines do the same work. An answer that is not what was
asked for raises BadAnswer: a figure of a broken run would be none.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

SECONDS: Final = 120.0
"""For one answer."""


class BadAnswer(RuntimeError):
    """Not what was asked for; the message has the answer's beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion."""

    prompt: str
    tokens: int
    temperature: float = 0.0

    def body(self, model: str) -> bytes:
        asked = {
            "model": model, "prompt": self.prompt, "max_tokens": self.tokens, "temperature": self.temperature,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        return json.dumps(asked).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """When its parts came, in seconds after it was asked for."""

    times: tuple[float, ...]
    """Of each event with text: several tokens may come in one."""
    tokens: int
    seconds: float

    @property
    def ttft(self) -> float:
        """Time to first token."""
        return self.times[0]

    @property
    def gaps(self) -> list[float]:
        """Between one event and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    @property
    def itl(self) -> float:
        """Seconds a token after the first, in the mean: what a reader feels, however many come together."""
        return (self.times[-1] - self.times[0]) / max(1, self.tokens - 1)


Send = Callable[[Request], Awaitable[Answer]]


@dataclass(slots=True)
class _Stream(asyncio.Protocol):
    """One request on one connection."""

    done: asyncio.Future[None]
    began: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    status: int = 0
    _rest: bytes = b""
    _parser: Any = None
    _ended: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def connection_lost(self, exception: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the connection ended: {exception}")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        now = time.perf_counter() - self.began
        if self.status != 200:
            self._fail(f"{self.status} {body[:200]!r}")
            return
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            self._event(event, now)

    def on_message_complete(self) -> None:
        if self.done.done():
            return
        if self._ended:
            self.done.set_result(None)
        else:
            self._fail("it ended without [DONE]")

    def _event(self, event: bytes, now: float) -> None:
        if event == b"data: [DONE]":
            self._ended = True
        elif b'"usage":{' in event:
            self.tokens = json.loads(event.removeprefix(b"data: "))["usage"]["completion_tokens"]
        elif b'"error"' in event:
            self._fail(event[:200].decode(errors="replace"))
        else:
            self.times.append(now)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(BadAnswer(why))


async def ask(url: str, model: str, request: Request) -> Answer:
    """Raises BadAnswer, or TimeoutError."""
    loop = asyncio.get_running_loop()
    parts, body = urlsplit(url), request.body(model)
    began = time.perf_counter()
    stream = _Stream(loop.create_future(), began)
    transport, _ = await loop.create_connection(lambda: stream, parts.hostname or "127.0.0.1", parts.port or 80)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    try:
        transport.write(head.encode() + body)
        async with asyncio.timeout(SECONDS):
            await stream.done
    finally:
        transport.close()
    if stream.tokens != request.tokens or not stream.times:
        raise BadAnswer(f"{stream.tokens} tokens of {request.tokens}")
    return Answer(tuple(stream.times), stream.tokens, time.perf_counter() - began)


async def closed_loop(
    requests: Iterable[Request], *, clients: int, send: Callable[[Request], Awaitable[Answer]]
) -> list[Answer]:
    """So many clients, each with its next request as soon as it has its answer."""
    waiting, answers = iter(requests), list[Answer]()

    async def client() -> None:
        for request in waiting:
            answers.append(await send(request))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answers


async def in_batches(requests: Sequence[Request], *, size: int, send: Send) -> list[Answer]:
    """Static batching: the next batch begins when the last answer of the one before has ended."""
    answers: list[Answer] = []
    for first in range(0, len(requests), size):
        answers += await asyncio.gather(*(send(request) for request in requests[first : first + size]))
    return answers
