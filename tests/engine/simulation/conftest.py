"""A simulated engine whose clock moves only when it sleeps, and the samples of a real one's answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tokenfleet_engine.serving.asgi import Answer, Message, ask
from tokenfleet_engine.simulation.api import Api
from tokenfleet_engine.simulation.engine import Engine
from tokenfleet_engine.simulation.faults import Faults
from tokenfleet_engine.simulation.metrics import Metrics
from tokenfleet_engine.simulation.models import Models
from tokenfleet_engine.simulation.scheduler import Scheduler
from tokenfleet_engine.simulation.settings import read_settings

SAMPLES = Path(__file__).parent / "vllm-0.32.0.json"
"""Requests, and what vLLM 0.32.0 with a small model, --max-model-len 2048 and the name `demo` answered to them."""


@dataclass(slots=True)
class Clock:
    """Sleeping takes no time. Others get a turn, as they do while an engine computes."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)
    late: float = 0.0
    """By how much each sleep is longer than asked for."""

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + (self.late if seconds else 0.0)
        for _ in range(3):
            await asyncio.sleep(0)


class Simulated:
    """One engine, asked without a socket."""

    def __init__(self, *flags: str, adapters: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.crashes: list[float] = []
        self.settings = read_settings(["--max-model-len", "2048", "--answer-tokens", "0", *flags])
        self.scheduler = Scheduler(self.settings.limits)
        self.faults = Faults(self.settings.orders, random=Random(1), clock=self.clock)
        metrics = Metrics(self.registry, model="demo", limits=self.settings.limits, max_model_len=2048)
        self.engine = Engine(
            self.scheduler, self.settings.timing.seconds, observer=metrics, clock=self.clock, sleep=self.clock.sleep,
            faults=self.faults,
        )  # fmt: skip
        self.api = Api(
            models=Models("demo", 2048, adapters or {}), engine=self.engine, settings=self.settings, faults=self.faults,
            registry=self.registry, crash=lambda: self.crashes.append(self.clock.now), wall_clock=lambda: 1_700_000_000.0,
        )  # fmt: skip
        self.running = asyncio.create_task(self.engine.run())

    async def ask(self, method: str, path: str, content: object = None) -> Answer:
        return await ask(self.api, _scope(method, path), method, path, content)

    async def complete(self, **body: Any) -> Any:
        answer = await self.ask("POST", "/v1/completions", body)
        assert answer.status == 200, answer.body
        return answer.json()

    async def chat(self, **body: Any) -> Any:
        answer = await self.ask("POST", "/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        return answer.json()

    async def exchange(self, method: str, path: str, raw: bytes, headers: dict[str, str]) -> list[Message]:
        """All that was sent."""
        sent: list[Message] = []
        unread = [raw]

        async def receive() -> Message:
            if not unread:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            **_scope(method, path),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        await self.api(scope, receive, send)
        return sent

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"model_name": "demo", "engine": "0"})


def _scope(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "client": ("127.0.0.1", 1)}


@pytest.fixture
async def simulate() -> AsyncIterator[Callable[..., Simulated]]:
    """Makes engines that end with the test."""
    made: list[Simulated] = []

    def make(*flags: str, **more: Any) -> Simulated:
        made.append(Simulated(*flags, **more))
        return made[-1]

    yield make
    for each in made:
        each.running.cancel()
        await asyncio.gather(each.running, return_exceptions=True)


def samples() -> dict[str, Any]:
    return dict(json.loads(SAMPLES.read_text(encoding="utf-8"))["answers"])


def metric_kinds() -> dict[str, str]:
    """Of the metrics of that vLLM, by name without _total."""
    kinds = json.loads(SAMPLES.read_text(encoding="utf-8"))["metrics"]
    return {name if kind == "histogram" else name.removesuffix("_total"): kind for name, kind in kinds.items()}
