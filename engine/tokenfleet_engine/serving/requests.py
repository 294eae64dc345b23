"""Counts requests from their first byte to their last, whatever ends them: how many are in flight, and what became of each.

An `Exchange` stands between the server and one request's application. Per part of an answer it does next to nothing: tokens
and the times between them are vLLM's to count. It looks at an answer's first kilobyte for the model's name, since the request
itself is not read here, and at each part's first bytes for an error: an event stream has said 200 by then, and would count as
well ended. A model's name becomes a label only where the engine serves it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from prometheus_client import Counter, Histogram

from tokenfleet import contract
from tokenfleet_engine.serving.asgi import Message, Receive, Send
from tokenfleet_engine.serving.load import Rate

CLIENT_LEFT: Final = 499
_IN_FLIGHT: Final = contract.HEADER_IN_FLIGHT.encode()
_MODEL: Final = re.compile(rb'"model" ?: ?"([^"\\]{1,253})"')
_MODEL_WITHIN: Final = 1024
_ERRORS: Final = (b'data: {"error"', b"event: error")
_CODE: Final = re.compile(rb'"code" ?: ?([45]\d\d)\b')
_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)


class Requests:
    """Of one server. The metrics stand in no registry of their own: see `metrics`."""

    def __init__(self, models: Callable[[], Sequence[str]], *, clock: Callable[[], float]) -> None:
        self.in_flight = 0
        self.clock = clock
        self.ended = Rate(clock())
        self.total = Counter(
            contract.METRIC_ENGINE_REQUESTS,
            "Requests that have ended, by the HTTP status of their answer. 499: the client left first. A stream that broke off "
            "with an error after it had begun counts with that error's code.",
            ["model", "status"],
            registry=None,
        )
        self.refused = Counter(
            contract.METRIC_ENGINE_REFUSED,
            "Requests that were refused with 503 before they were read: the engine drains, sleeps, or has reached that bound.",
            ["reason"],
            registry=None,
        )
        self.seconds = Histogram(
            contract.METRIC_ENGINE_LATENCY,
            "Seconds from a request's head to the last byte of its answer, of requests that were answered whole and without "
            "error.",
            ["model"],
            buckets=_SECONDS,
            registry=None,
        )
        self._models = models
        self._endings: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def exchange(self, receive: Receive, send: Send) -> "Exchange":
        return Exchange(self, receive, send)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """In flight, and no more than that."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def refuse(self, reason: str) -> None:
        self.refused.labels(reason).inc()
        self.total.labels(self._label(None, 503), "503").inc()

    def end(self, named: str | None, status: int, *, seconds: float) -> None:
        label = self._label(named, status)
        ending = self._endings.get((label, status))
        if ending is None:  # to look them up by their labels costs more than to count
            ending = self._endings[label, status] = self.total.labels(label, str(status)), self.seconds.labels(label)
        ending[0].inc()
        if status < 400:
            ending[1].observe(seconds)

    def _label(self, named: str | None, status: int) -> str:
        """Where an answer does not tell, it was for the only model there is, unless that is what it could not find."""
        models = self._models()
        if named is None and len(models) == 1 and status != 404:
            return models[0]
        return named if named is not None and named in models else contract.METRIC_MODEL_OTHER


class Exchange:
    """One request, in flight while entered. Hand `receive` and `send` to the application."""

    __slots__ = ("_began", "_body_begun", "_code", "_left", "_model", "_receive", "_requests", "_send", "_status", "_whole")

    def __init__(self, requests: Requests, receive: Receive, send: Send) -> None:
        self._requests = requests
        self._receive = receive
        self._send = send
        self._status = 0
        self._code = 0
        self._model: str | None = None
        self._body_begun = False
        self._whole = False
        self._left = False

    def __enter__(self) -> "Exchange":
        self._requests.in_flight += 1
        self._began = self._requests.clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        requests = self._requests
        requests.in_flight -= 1
        now = requests.clock()
        requests.ended.mark(now)
        requests.end(self._model, self._outcome(error), seconds=now - self._began)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._whole:
            self._left = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            if not self._body_begun and body:
                self._body_begun = True
                found = _MODEL.search(body, 0, _MODEL_WITHIN)
                self._model = found[1].decode(errors="replace") if found else None
            if body.startswith(_ERRORS):
                code = _CODE.search(body)
                self._code = int(code[1]) if code else 500
            if not message.get("more_body", False):
                self._whole = True
        elif message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message.get("headers", ()), (_IN_FLIGHT, b"%d" % self._requests.in_flight)]
            message = {**message, "headers": headers}
        return self._send(message)

    def _outcome(self, error: BaseException | None) -> int:
        if self._left or isinstance(error, asyncio.CancelledError):
            return CLIENT_LEFT
        if error is not None or not self._whole:
            return 500
        return self._code or self._status
