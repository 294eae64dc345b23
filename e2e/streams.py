"""Many streams at once, each checked to its last token: what a disruption must not break.

Each stream asks for an exact number of tokens and ignores the model's end-of-text, so that a whole answer is known in
advance: that many tokens by vLLM's own usage count, finish_reason `length`, and `[DONE]`. A stream that ends otherwise is
`announced` where an error event or status said so, `truncated` where it looked complete but was not, and else `lost`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(slots=True)
class Tally:
    """What became of the streams so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    running: int = 0

    @property
    def whole(self) -> int:
        return self.outcomes["whole"]

    def add(self, outcome: str, problem: str = "") -> None:
        self.outcomes[outcome] += 1
        if problem:
            self.problems.append(f"{outcome}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A closed loop of `streams` clients, each with one request at a time."""

    url: str
    model: str
    streams: int
    tokens: int
    stream: bool = True
    pause: float = 0.0
    """Seconds that a client thinks between two requests: two cores have to start engines meanwhile."""

    def body(self, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": f"Stream number {number} begins:",
            "max_tokens": self.tokens,
            "ignore_eos": True,
            "stream": self.stream,
        }
        return body | ({"stream_options": {"include_usage": True}} if self.stream else {})


@asynccontextmanager
async def running(load: Load, transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[Tally]:
    """Keep `load` going as long as the context lasts; on leaving, wait for the running streams to end."""
    tally, stop = Tally(), asyncio.Event()
    transport = transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=load.streams), trust_env=False)
    timeout = httpx.Timeout(120, connect=5)
    async with httpx.AsyncClient(timeout=timeout, transport=transport) as client, asyncio.TaskGroup() as group:
        for number in range(load.streams):
            group.create_task(_client(client, load, number, tally, stop))
        try:
            yield tally
        finally:
            stop.set()


async def _client(client: httpx.AsyncClient, load: Load, number: int, tally: Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        tally.running += 1
        try:
            await (_stream if load.stream else _unary)(client, load, number, tally)
        except httpx.HTTPError as error:
            tally.add("lost", f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.2)
        finally:
            tally.running -= 1
        await asyncio.sleep(load.pause)


async def _unary(client: httpx.AsyncClient, load: Load, number: int, tally: Tally) -> None:
    answer = await client.post(f"{load.url}/v1/completions", json=load.body(number))
    if answer.status_code != 200:
        tally.add("announced", f"{answer.status_code} {answer.text[:200]}")
    elif (tokens := answer.json()["usage"]["completion_tokens"]) != load.tokens:
        tally.add("truncated", f"{tokens} tokens of {load.tokens}")
    else:
        tally.add("whole")


async def _stream(client: httpx.AsyncClient, load: Load, number: int, tally: Tally) -> None:
    finish, tokens, done = None, 0, False
    async with client.stream("POST", f"{load.url}/v1/completions", json=load.body(number)) as answer:
        if answer.status_code != 200:
            text = (await answer.aread()).decode(errors="replace")
            tally.add("announced", f"{answer.status_code} {text[:200]}")
            return
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                tally.add("announced", json.dumps(event["error"]))
                return
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
    if done and finish == "length" and tokens == load.tokens:
        tally.add("whole")
    else:
        tally.add("truncated", f"{tokens} tokens of {load.tokens}, finish_reason {finish}, [DONE] {done}")


async def until(probe: Callable[[], bool], *, timeout: float = 300) -> None:
    """Wait until `probe()` holds; raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not probe():
            await asyncio.sleep(0.1)


async def in_thread(call: Callable[..., object], *arguments: object) -> None:
    """Run a call that blocks, while the streams go on."""
    await asyncio.to_thread(call, *arguments)
