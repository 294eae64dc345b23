"""Many streams at once, each checked to its last token: what a disruption must not break.

Each stream asks for an exact number of tokens, as the least and the most, so that a whole answer is known in advance: that
many tokens by vLLM's own usage count, finish_reason `length`, and `[DONE]`; where the text is known too (`learn`), it must be
that one, character for character. A stream that ends otherwise is `announced` where an error event or status said so,
`truncated` where it looked complete but was not, and else `lost`.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx


@dataclass(slots=True)
class Tally:
    """What became of the streams so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    running: int = 0
    slowest: float = 0.0
    """Seconds: the longest wait for the first token of a stream, or for the whole of another answer."""

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

    padding: int = 0
    """Words that make the prompt longer, and so the wait for the first token."""
    texts: Mapping[int, str] = field(default_factory=dict)
    """By client: the text of a whole answer. Without one, only tokens are counted."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": f"Stream number {number} begins:" + " word" * self.padding,
            "max_tokens": self.tokens,
            "min_tokens": self.tokens,
            "temperature": 0,
            "stream": self.stream,
        }
        return body | ({"stream_options": {"include_usage": True}} if self.stream else {})


async def learn(load: Load) -> Load:
    """The same load with the texts that its clients are to get: asked for once, while nothing disturbs."""
    plain = replace(load, stream=False)
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        answers = await asyncio.gather(
            *(client.post(f"{load.url}/v1/completions", json=plain.body(number)) for number in range(load.streams))
        )
    return replace(load, texts={number: answer.json()["choices"][0]["text"] for number, answer in enumerate(answers)})


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
            tally.add("lost", f"{type(error).__name__}: {error}".rstrip(": "))
            await asyncio.sleep(0.2)
        finally:
            tally.running -= 1
        await asyncio.sleep(load.pause)


async def _unary(client: httpx.AsyncClient, load: Load, number: int, tally: Tally) -> None:
    began = time.monotonic()
    answer = await client.post(f"{load.url}/v1/completions", json=load.body(number), headers=load.headers)
    tally.slowest = max(tally.slowest, time.monotonic() - began)
    if answer.status_code != 200:
        tally.add("announced", f"{answer.status_code} {answer.text[:200]}")
    elif (tokens := answer.json()["usage"]["completion_tokens"]) != load.tokens:
        tally.add("truncated", f"{tokens} tokens of {load.tokens}")
    elif number in load.texts and (trouble := _other(load.texts[number], answer.json()["choices"][0]["text"])):
        tally.add("truncated", trouble)
    else:
        tally.add("whole")


def _other(wanted: str, text: str) -> str:
    """What is wrong with the text of a whole answer; "" for nothing."""
    if text == wanted:
        return ""
    same = next((place for place, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), min(len(text), len(wanted)))
    return f"another text from character {same} on: {text[same : same + 30]!r}, not {wanted[same : same + 30]!r}"


async def _stream(client: httpx.AsyncClient, load: Load, number: int, tally: Tally) -> None:
    finish, tokens, done, began = None, 0, False, time.monotonic()
    text: list[str] = []
    async with client.stream("POST", f"{load.url}/v1/completions", json=load.body(number), headers=load.headers) as answer:
        if answer.status_code != 200:
            words = (await answer.aread()).decode(errors="replace")
            tally.add("announced", f"{answer.status_code} {words[:200]}")
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
                if not text:
                    tally.slowest = max(tally.slowest, time.monotonic() - began)
                text.append(choice.get("text") or "")
                finish = choice.get("finish_reason") or finish
    if done and finish == "length" and tokens == load.tokens:
        trouble = _other(load.texts[number], "".join(text)) if number in load.texts else ""
        tally.add("truncated" if trouble else "whole", trouble)
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
