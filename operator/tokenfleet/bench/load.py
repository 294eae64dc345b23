"""Drives a load: who sends which prompt when, and when it is over. Counts nothing, and writes nothing.

In an open loop each request has its moment, and keeps it: when the client is late, or has as many requests under way as it
may, the request is sent later and still counted from its moment (coordinated omission). In a closed loop a user's next request
begins when the last answer has ended. What is under way at the end is waited for; what never ends is a failure.
"""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tokenfleet.bench.arrivals import Arrivals, Closed, Pattern, arrivals
from tokenfleet.bench.client import Client
from tokenfleet.bench.prompts import Prompt
from tokenfleet.bench.record import Exchange, Run

GONE_SECONDS: Final = 3.0
"""With failed connections alone, and not one token, a server is taken to be gone,"""
GONE_FAILURES: Final = 5
"""after this many at least."""
_PAUSE_SECONDS: Final = 0.2
"""Of a user of a closed loop who got no answer at all: else a server that is away is asked thousands of times a second."""
_TICK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """When nothing new is sent any more: whichever comes first."""

    requests: int | None = None
    seconds: float | None = None
    grace: float = 60.0
    """Seconds that what is under way then has to end."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Clients that do not wait for the end of their answers."""

    share: float
    """Of all requests."""
    after: float
    """Seconds."""


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    elapsed: float = 0.0
    sent: int = 0
    done: int = 0
    failed: int = 0
    """Of `done`: errors and cut answers."""
    in_flight: int = 0
    chunks: int = 0
    """Of answers, ended or not."""
    last_error: str | None = None


class _Drive:
    """One run, while it goes on."""

    def __init__(
        self, client: Client, prompts: Iterator[Prompt], stop: Stop, *, chance: Random, leaving: Leaving | None
    ) -> None:
        self.progress, self.exchanges, self.ending = Progress(), list[Exchange](), "complete"
        self.over = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.on_exchange: Callable[[Exchange], None] = lambda _: None
        self._client, self._prompts, self._stop, self._leaving, self._chance = client, prompts, stop, leaving, chance
        self._origin, self._before = client.clock(), client.chunks
        self._failures, self._failing_since, self._heard = 0, 0.0, client.chunks

    @property
    def now(self) -> float:
        return self._client.clock() - self._origin

    def number(self) -> int | None:
        """Of the next request; None when there are to be no more."""
        number = self.progress.sent
        if self.over.is_set() or (self._stop.requests is not None and number >= self._stop.requests):
            return None
        self.progress.sent += 1
        return number

    async def users(self, pattern: Closed) -> None:
        """A closed loop."""
        for _ in range(pattern.concurrency):
            self.spawn(self._user(pattern.think))
        await self._all()

    async def arrive(self, pattern: Arrivals, *, at_once: int | None) -> None:
        """An open loop."""
        places = asyncio.Semaphore(at_once) if at_once is not None else contextlib.nullcontext()
        for moment in arrivals(pattern, self._chance, count=self._stop.requests):
            if self._stop.seconds is not None and moment >= self._stop.seconds:
                await self._until(self._stop.seconds)
                break
            await self._until(moment)
            if self.over.is_set() or (prompt := next(self._prompts, None)) is None or (number := self.number()) is None:
                break
            self.spawn(self._arrival(prompt, number, moment, places))
        await self._all()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def watch(self, on_progress: Callable[[Progress], None] | None, halt: asyncio.Event) -> None:
        """Tell how far it is, and end what does not end by itself."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(halt.wait(), _TICK_SECONDS)
            self.progress.elapsed, self.progress.chunks = self.now, self._client.chunks - self._before
            if on_progress is not None:
                on_progress(self.progress)
            if halt.is_set():
                return self._end("interrupted")
            if self._is_gone():
                return self._end("server gone")
            if self._stop.seconds is not None and self.now > self._stop.seconds + self._stop.grace:
                return self._end("unfinished")

    def _end(self, ending: str) -> None:
        self.ending = ending
        self.over.set()
        self._client.abandon("aborted" if ending == "interrupted" else "cut", _ENDINGS[ending])
        for task in self.tasks:
            task.cancel()

    async def _all(self) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def _until(self, moment: float) -> None:
        if (ahead := moment - self.now) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ahead):
                    await self.over.wait()

    async def _user(self, think: float) -> None:
        while self._stop.seconds is None or self.now < self._stop.seconds:
            if self.over.is_set() or (prompt := next(self._prompts, None)) is None or (number := self.number()) is None:
                return
            last = await self._converse(prompt, number, None, think=think)
            await asyncio.sleep(max(think, _PAUSE_SECONDS if _unanswered(last) else 0.0))

    async def _arrival(
        self, prompt: Prompt, number: int, moment: float, places: contextlib.AbstractAsyncContextManager[None]
    ) -> None:
        async with places:
            await self._converse(prompt, number, moment)

    async def _converse(self, prompt: Prompt, number: int, intended: float | None, *, think: float = 0.0) -> Exchange:
        """A request, and the rest of its conversation; the last one."""
        while True:
            exchange = await self._exchange(prompt, number, intended)
            following = prompt.after(exchange.text or "") if exchange.outcome == "ok" else None
            if following is None:
                return exchange
            await asyncio.sleep(think)
            if (next_number := self.number()) is None:
                return exchange
            prompt, number, intended = following, next_number, None

    async def _exchange(self, prompt: Prompt, number: int, intended: float | None) -> Exchange:
        leave = self._leaving.after if self._leaving is not None and self._chance.random() < self._leaving.share else None
        self.progress.in_flight += 1
        exchange = await self._client.send(
            prompt, index=number, intended=intended, origin=self._origin, leave_after=leave
        )  # fmt: skip
        self.progress.in_flight -= 1
        self._note(exchange)
        return exchange

    def _note(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.on_exchange(exchange)
        self.progress.done += 1
        if exchange.outcome in ("error", "cut"):
            self.progress.failed += 1
            self.progress.last_error = exchange.error
        if not _unanswered(exchange) or self._client.chunks > self._heard:
            self._failures, self._heard = 0, self._client.chunks
        else:
            self._failing_since = self._failing_since if self._failures else exchange.ended
            self._failures += 1

    def _is_gone(self) -> bool:
        if self._client.chunks > self._heard:
            return False
        return self._failures >= GONE_FAILURES and self.now - self._failing_since >= GONE_SECONDS


_ENDINGS: Final = {
    "interrupted": "the test was interrupted",
    "server gone": "the server is gone",
    "unfinished": "it had not ended when the test was over",
}


async def drive(
    client: Client,
    prompts: Iterator[Prompt],
    pattern: Pattern,
    *,
    stop: Stop,
    chance: Random | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_exchange: Callable[[Exchange], None] | None = None,
    leaving: Leaving | None = None,
    at_once: int | None = None,
    halt: asyncio.Event | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Run:
    """The client is open. on_progress: four times a second. on_exchange: as each ends. at_once: the most requests of an open
    loop under way. halt: set it to end the run now; what there was is returned.

    The run's meta gets `window`, what the figures count, and `ending`: complete, interrupted, unfinished or "server gone".
    """
    with _undisturbed():
        run = _Drive(client, prompts, stop, chance=chance or Random(0), leaving=leaving)
        run.on_exchange = on_exchange or run.on_exchange
        watch = asyncio.create_task(run.watch(on_progress, halt or asyncio.Event()))
        try:
            await (run.users(pattern) if isinstance(pattern, Closed) else run.arrive(pattern, at_once=at_once))
            ended = run.now
        finally:  # Nothing is under way any more, unless this very task is cancelled.
            under_way = [watch, *run.tasks]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
    ends = ended if stop.seconds is None else min(ended, stop.seconds)
    return Run({**(meta or {}), "window": {"begins": 0.0, "ends": ends}, "ending": run.ending}, tuple(run.exchanges))


def _unanswered(exchange: Exchange) -> bool:
    return exchange.outcome in ("error", "cut") and (exchange.status is None or exchange.outcome == "cut")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Old objects are looked through no more: that takes long enough to be seen in the gaps of all streams."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
