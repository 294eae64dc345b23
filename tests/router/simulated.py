"""Simulated engines behind a real router, in this process, whose answers are cut where a test says.

They are the engine distribution's own simulator: greedy, so that whoever goes on with a text writes what the one before would
have written. Each has an id and a time of its own in its answers, lest one passes for the other.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from tests.engine.simulation.conftest import Simulated
from tests.router.harness import MODEL, Call, Engine, Reply, Router, chunk, engines, router
from tokenfleet.router.terms import QueueTerms, Terms
from tokenfleet.router.wire.limits import Limits
from tokenfleet_engine.serving.asgi import Message
from tokenfleet_engine.simulation.models import Models

QUEUE = Terms(queue=QueueTerms(max_depth=8, timeout_seconds=60))
ENGINE_DEATH = (
    b'data: {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}\n\n'
)
End = Callable[[Call], None]


def reset(call: Call) -> None:
    """As an engine that is killed."""
    call.reset()


def report(call: Call) -> None:
    """As vLLM's server does when the engine behind it has died; between two events, always."""
    call.event(ENGINE_DEATH)
    call.end_stream()


def hang(call: Call) -> None:
    """As an engine that computes no more; its connection stays."""


class Fleet:
    """A router and its engines. Their streams are cut, one after the other, after so many bytes of their bodies."""

    def __init__(self, front: Router, made: list[Engine]) -> None:
        self.front = front
        self.made = made
        self.cuts: list[int] = []
        self.end: End = reset
        self.hung = False
        self.keeps_quiet = False
        """Of what is cut the last token is not said to be the last."""

    @property
    def generations(self) -> list[dict[str, Any]]:
        """What engines were asked to generate, in the order of their replicas."""
        calls = [call for engine in self.made for call in engine.calls if call.path != "/tokenize"]
        return [msgspec.json.decode(call.body) for call in calls]

    @property
    def results(self) -> dict[str, int]:
        return dict(self.front.shared.metrics.continuations)


class Script:
    """Of one engine."""

    def __init__(self, number: int, simulated: Simulated) -> None:
        self.fleet: Fleet | None = None
        self._number = number
        models = Models(MODEL, simulated.settings.max_model_len, {})
        self._api = dataclasses.replace(simulated.api, models=models, wall_clock=lambda: 1_700_000_000.0 + number)

    async def __call__(self, call: Call) -> None:
        assert self.fleet is not None
        generates = call.path != "/tokenize" and b'"stream":true' in call.body
        left = self.fleet.cuts.pop(0) if generates and self.fleet.cuts else None
        unread, chunked = [call.body], False

        async def receive() -> Message:
            if not unread:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        async def send(message: Message) -> None:
            nonlocal left, chunked
            if message["type"] == "http.response.start":
                chunked = begin(call, message)
                return
            body = message.get("body", b"")
            assert self.fleet is not None
            if left is not None:
                if self.fleet.keeps_quiet:
                    body = body.replace(b'"finish_reason":"length"', b'"finish_reason":null')
                body, left = body if self.fleet.end is report else body[:left], left - len(body)
            if not chunked:
                call.write(body)
            elif body:
                call.write(chunk(body))
            await call.writer.drain()
            if left is not None and left <= 0:
                self.fleet.end(call)
                if self.fleet.end is hang:
                    self.fleet.hung = True
                    await call.gone()
                raise ConnectionResetError
            if chunked and not message.get("more_body", False):
                call.write(b"0\r\n\r\n")

        headers = [(b"x-request-id", b"engine-%d" % self._number)]
        await self._api({"type": "http", "method": call.method, "path": call.path, "headers": headers}, receive, send)


def begin(call: Call, message: Message) -> bool:
    """Write an answer's head. Whether its body comes in chunks."""
    headers = dict(message["headers"])
    chunked = b"content-length" not in headers
    if chunked:
        headers[b"transfer-encoding"] = b"chunked"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers.items())
    call.write(b"HTTP/1.1 %d X\r\n%b\r\n" % (message["status"], lines))
    return chunked


@contextlib.asynccontextmanager
async def simulated_fleet(count: int, *flags: str, terms: Terms = QUEUE, limits: Limits | None = None) -> AsyncIterator[Fleet]:
    """A router in front of so many replicas of one model."""
    simulated = [Simulated(*flags) for _ in range(count)]
    scripts = [Script(number, each) for number, each in enumerate(simulated)]
    try:
        async with engines(*scripts) as made, router(*(one.sighting() for one in made), terms=terms, limits=limits) as front:
            fleet = Fleet(front, made)
            for script in scripts:
                script.fleet = fleet
            yield fleet
    finally:
        for each in simulated:
            each.running.cancel()
        await asyncio.gather(*(each.running for each in simulated), return_exceptions=True)


@dataclasses.dataclass
class Told:
    """A stream as its client understands it."""

    text: str
    roles: int
    headings: set[tuple[str, int, str]]
    finish: list[str]
    usage: list[tuple[int, int, int]]
    done: bool
    error: str


def told(reply: Reply) -> Told:
    """What all of its events say. Those behind [DONE] would be an error of the test."""
    found = Told("", 0, set(), [], [], False, "")
    for event in reply.body.split(b"\n\n"):
        data = event.strip().removeprefix(b"data: ")
        if not data:
            continue
        assert not found.done, "nothing comes after [DONE]"
        if data == b"[DONE]":
            found.done = True
            continue
        fields = msgspec.json.decode(data)
        if "error" in fields:
            found.error = fields["error"]["code"]
            continue
        found.headings.add((fields["id"], fields["created"], fields["model"]))
        for choice in fields["choices"]:
            delta = choice.get("delta", {})
            found.text += choice.get("text") or delta.get("content") or ""
            found.roles += "role" in delta
            found.finish += [choice["finish_reason"]] if choice["finish_reason"] else []
        if used := fields.get("usage"):
            found.usage.append((used["prompt_tokens"], used["completion_tokens"], used["total_tokens"]))
    return found
