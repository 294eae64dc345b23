"""ASGI middleware around vLLM's whole server: who gets in, what is ours to answer, and how the server goes away.

vLLM loads it by its own `--middleware` flag, so it is a plain class, with no web framework and no vLLM; what it needs to know
of the engine behind it stands in `engine`. It routes: our own paths are answered here, what makes the model work passes the
gate and is counted, and the rest (health, metrics, lists) goes straight through, so that load cannot block it. Paths are
compared as they came (scope["path"]), never by a URL that is put together from the client's Host header. It must not read
requests' bodies. All state belongs to the one event loop that runs the server.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry

from tokenfleet import contract
from tokenfleet_engine.say import say
from tokenfleet_engine.serving.answers import from_loopback, refuse, send_error, send_json
from tokenfleet_engine.serving.asgi import App, Receive, Scope, Send
from tokenfleet_engine.serving.bounds import read_bounds
from tokenfleet_engine.serving.engine import Engine, find_engine
from tokenfleet_engine.serving.gate import Gate
from tokenfleet_engine.serving.gpu import gpu_memory
from tokenfleet_engine.serving.metrics import FleetMetrics
from tokenfleet_engine.serving.readiness import Patience, Readiness, Verdict
from tokenfleet_engine.serving.requests import Requests
from tokenfleet_engine.serving.signals import Signals
from tokenfleet_engine.serving.sleep import Refusal, Sleep

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


class Admission:
    """vllm … --middleware tokenfleet_engine.serving.admission.Admission"""

    def __init__(
        self,
        app: App,
        *,
        engine: Engine | None = None,
        environment: Mapping[str, str] = os.environ,
        registry: CollectorRegistry = REGISTRY,
        clock: Callable[[], float] = time.monotonic,
        patience: Patience | None = None,
        memory: Callable[[], Mapping[str, int]] = gpu_memory,
    ) -> None:
        """`engine`: without one it is vLLM's, to which requests lead. Raises ValueError where a bound is no number."""
        self._app = app
        self._engine: Engine | None = None
        self._environment = environment
        self._requests = Requests(self._models, clock=clock)
        self._readiness = Readiness(app, model=self._model, clock=clock, say=say, patience=patience)
        self._sleep = Sleep(busy=self._busy, begins=self._readiness.forget)
        self._gate = Gate(self._requests, Signals(registry, clock=clock), self._sleep, clock=clock)
        self._meet(engine)
        registry.register(FleetMetrics(registry, self._requests, self._gate, memory=memory))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._engine is None and (found := find_engine(scope)) is not None:
            self._meet(found)
        if scope["type"] == "websocket":
            await self._admit_websocket(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (answer := self._answers.get((scope["method"], scope["path"]))) is not None:
            await answer(self, scope, send)
        elif scope["method"] == "POST" and scope["path"] not in UNCOUNTED_POSTS:
            await self._admit(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refused := self._gate.refusal()) is not None:  # no await between this look and the count
            self._requests.refuse(refused.reason)
            headers = ((b"retry-after", b"%d" % refused.retry_after), *refused.headers)
            await refuse(scope, receive, send, refused.message, *headers)
            return
        with self._requests.exchange(receive, send) as exchange:
            await self._app(scope, exchange.receive, exchange.send)

    async def _admit_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A session is in flight while it lasts. It has no status that would count."""
        if (refused := self._gate.refusal()) is not None:
            await send({"type": "websocket.close", "code": refused.close_code})
            return
        with self._requests.lease():
            await self._app(scope, receive, send)

    async def _answer_ready(self, scope: Scope, send: Send) -> None:
        if self._gate.draining_seconds is not None:
            verdict = Verdict(False, "Draining")
        elif self._sleep.sleeping:
            verdict = Verdict(False, "Sleeping")
        else:
            verdict = await self._readiness.ask(scope)
        await send_json(send, 200 if verdict.ready else 503, verdict.json())

    async def _answer_load(self, _: Scope, send: Send) -> None:
        figures, draining = self._gate.figures(), self._gate.draining_seconds
        content: dict[str, Any] = {
            "draining": draining is not None,
            "in_flight": figures.in_flight,
            "waiting": int(figures.waiting),
            "queue_seconds": round(figures.queue_seconds, 3),
            "load": round(self._gate.load(figures).factor, 3),
            "sleeping": self._sleep.sleeping,
        }
        if draining is not None:
            content["draining_seconds"] = round(draining, 3)
        await send_json(send, 200, content)

    async def _answer_drain(self, scope: Scope, send: Send) -> None:
        if await _allowed(scope, send, "Draining is for this pod's own preStop hook."):
            self._gate.drain()
            self._readiness.forget()
            await self._answer_load(scope, send)

    async def _answer_sleep(self, scope: Scope, send: Send) -> None:
        await self._answer_step(scope, send, self._sleep.fall_asleep)

    async def _answer_wake(self, scope: Scope, send: Send) -> None:
        await self._answer_step(scope, send, self._sleep.wake)

    async def _answer_step(self, scope: Scope, send: Send, step: Callable[[Engine | None], Awaitable[None]]) -> None:
        if not await _allowed(scope, send, "Only this pod itself puts its engine to sleep and wakes it."):
            return
        try:
            await step(self._engine)
        except Refusal as refusal:
            await send_error(send, refusal.status, refusal.kind, str(refusal))
        else:
            await send_json(send, 200, {"sleeping": self._sleep.sleeping})

    def _meet(self, engine: Engine | None) -> None:
        """The bounds depend on who it is."""
        self._engine = engine
        self._gate.bounds = read_bounds(self._environment, max_sequences=None if engine is None else engine.max_sequences)

    def _models(self) -> Sequence[str]:
        return () if self._engine is None else self._engine.models()

    def _model(self) -> str | None:
        return next(iter(self._models()), None)

    def _busy(self) -> str | None:
        """Why the engine may not sleep."""
        if self._gate.draining_seconds is not None:
            return "This replica is going away."
        if self._readiness.warming_up:
            return "This replica is making its first token. Try again soon."
        if (count := self._requests.in_flight) > 0:
            return f"This replica has {count} requests in flight. Try again when there are none."
        return None

    _answers: Final[dict[tuple[str, str], Callable[["Admission", Scope, Send], Awaitable[None]]]] = {
        ("GET", contract.PATH_ENGINE_READY): _answer_ready,
        ("GET", contract.PATH_ENGINE_LOAD): _answer_load,
        ("POST", contract.PATH_ENGINE_DRAIN): _answer_drain,
        ("POST", contract.PATH_ENGINE_SLEEP): _answer_sleep,
        ("POST", contract.PATH_ENGINE_WAKE): _answer_wake,
    }


async def _allowed(scope: Scope, send: Send, why: str) -> bool:
    if from_loopback(scope):
        return True
    await send_error(send, 403, "permission_denied", why)
    return False
