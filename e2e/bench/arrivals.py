"""Fake engines and clients that tell how evenly engines are loaded: all in one event loop, so that the count is exact.

An engine takes as long for a request as that asks for, and says on each answer how many it has in flight, if it is to.
"""

import asyncio
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract

HOST: Final = "127.0.0.1"
MODEL: Final = "m"
MEAN_SECONDS: Final = 0.5
_SIGMA: Final = 1.0
"""Of the logarithm of a request's time: one in twenty takes more than three times the mean."""
_FIRST_TOKEN_SECONDS: Final = 0.02


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


_EVENT: Final = _chunk(b'data: {"choices":[{"delta":{"content":"token"}}]}\n\n')
_LAST: Final = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_BODY: Final = b'{"choices":[{"message":{"content":"all"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'

Target = Callable[[], int]
"""The port that the next request goes to."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way of choosing came to."""

    imbalance: float
    of_means: float
    requests: int
    failed: int


class Meter:
    """Requests in flight on each engine, over time."""

    def __init__(self, engines: int, clock: Callable[[], float], *, crowd: int = 0) -> None:
        """crowd: so many requests that somebody else keeps on the first engine."""
        self._clock = clock
        self._since = math.inf
        self._last = 0.0
        self.in_flight = [crowd, *[0] * (engines - 1)]
        self._areas = [0.0] * engines
        self._imbalance = 0.0
        self.requests = 0
        self.failed = 0

    def begin(self) -> None:
        self._since = self._last = self._clock()
        self.requests = 0

    def change(self, engine: int, by: int) -> None:
        now = self._clock()
        total = sum(self.in_flight)
        if now > self._since and total:
            passed = now - self._last
            self._imbalance += passed * max(self.in_flight) * len(self.in_flight) / total
            for index, count in enumerate(self.in_flight):
                self._areas[index] += passed * count
        self._last = now
        self.in_flight[engine] += by

    def figures(self) -> Figures:
        seconds = self._last - self._since
        means = max(self._areas) * len(self._areas) / sum(self._areas)
        return Figures(self._imbalance / seconds, means, self.requests, self.failed)


class Engine(asyncio.Protocol):
    """One connection to a fake engine. `max_tokens` of a request is how long it takes, in milliseconds."""

    def __init__(self, number: int, meter: Meter, *, reports: bool) -> None:
        self._number = number
        self._meter = meter
        self._reports = reports
        self._buffer = b""
        self._begin: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begin is not None:
            self._begin.cancel()
        if self._end is not None:
            self._end.cancel()
            self._meter.change(self._number, -1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        _, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or not body.endswith(b"}"):
            return
        self._buffer = b""
        asked = json.loads(body)
        self._meter.change(self._number, 1)
        loop = asyncio.get_running_loop()
        if asked["stream"]:
            chunked = b"text/event-stream", b"transfer-encoding: chunked", _EVENT
            self._begin = loop.call_later(_FIRST_TOKEN_SECONDS, self._answer, *chunked)
        self._end = loop.call_later(_FIRST_TOKEN_SECONDS + asked["max_tokens"] / 1000, self._finish, asked["stream"])

    def _finish(self, stream: bool) -> None:
        self._end = None
        if stream:
            self._transport.write(_LAST)
        else:
            self._answer(b"application/json", b"content-length: %d" % len(_BODY), _BODY)
        self._meter.change(self._number, -1)

    def _answer(self, kind: bytes, framing: bytes, payload: bytes) -> None:
        load = (
            b"%b: %d\r\n" % (contract.HEADER_IN_FLIGHT.encode(), self._meter.in_flight[self._number]) if self._reports else b""
        )
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n%b\r\n%b" % (kind, framing, load, payload))


class Caller(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, spare: list["Caller"], meter: Meter) -> None:
        self._spare = spare
        self._meter = meter
        self._busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self, request: bytes) -> None:
        self._busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if data.endswith((_LAST, _BODY)):
            self._busy = False
            self._meter.requests += 1
            self._spare.append(self)
        elif b"HTTP/1.1 " in data and b"HTTP/1.1 200" not in data:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._spare:
            self._spare.remove(self)
        self._meter.failed += self._busy


class Load:
    """Requests at random times."""

    def __init__(self, meter: Meter, target: Target, *, rate: float, seed: int) -> None:
        self._meter = meter
        self._target = target
        self._rate = rate
        self._random = random.Random(seed)
        self._spare: dict[int, list[Caller]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        end = now + seconds
        while now < end:
            now += self._random.expovariate(self._rate)
            await asyncio.sleep(now - loop.time())
            request, port = self._request(), self._target()
            if spare := self._spare[port]:
                spare.pop().ask(request)
            else:
                task = loop.create_task(self._connect(port, request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _connect(self, port: int, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(lambda: Caller(self._spare[port], self._meter), HOST, port)
        caller.ask(request)

    def _request(self) -> bytes:
        seconds = self._random.lognormvariate(math.log(MEAN_SECONDS) - _SIGMA**2 / 2, _SIGMA)
        asked = {"model": MODEL, "messages": [], "stream": self._random.random() < 0.5, "max_tokens": int(seconds * 1000) + 1}
        body = json.dumps(asked).encode()
        return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
