"""Limits that all routers share: the buckets of rates.py in one Redis, so that together they let in exactly the limit.

One atomic script (rate_script.py) decides, by Redis' own clock. One call is under way at a time and carries all that came
meanwhile, so a busy router makes few large calls. `settle` and `cancel` wait a moment for one that goes anyway.

No request waits for Redis longer than the deadline. When Redis fails or is slower, it counts as away: each router then keeps to
the limits by itself (so a caller may get the whole limit from each), no request waits, and Redis is tried in the background
with growing pauses until it is well. What was to be settled meanwhile is lost; it would be made good within a minute anyway.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from tokenfleet.router.callers.rate_answers import header_lines, refusal
from tokenfleet.router.callers.rate_script import SCRIPT, SHA1
from tokenfleet.router.callers.rates import UNLIMITED, Done, Rates
from tokenfleet.router.terms import Rate

log = logging.getLogger(__name__)

DEADLINE_SECONDS: Final = 0.1
_CONNECT_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 0.05
"""How long a correction waits for a request to go along with."""
_BATCH: Final = 256
"""So that one script holds Redis up for a few milliseconds at most."""
_PROBE: Final = ":probe"
"""Whose bucket is changed to see whether Redis is well; no key has such a name."""


def connect(url: str) -> Redis:
    """A client that says at once what is wrong, and never sends a script twice by itself."""
    retry = Retry(NoBackoff(), 0)
    return Redis.from_url(url, retry=retry, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=None, max_connections=2)


class _Step:
    """A change of one caller's buckets."""

    __slots__ = ("deadline", "done", "rate", "requests", "tokens", "who")

    def __init__(self, who: str, rate: Rate, requests: int, tokens: int, deadline: float, done: Done | None) -> None:
        self.who = who
        self.rate = rate
        self.requests = requests
        self.tokens = tokens
        """To take of each bucket; below zero: to give back."""
        self.deadline = deadline
        self.done = done
        """None: nobody asks whether it may be."""

    @property
    def arguments(self) -> tuple[int, int, int, int, int]:
        limits = (self.rate.requests_per_minute or 0, self.rate.tokens_per_minute or 0)
        return *limits, self.requests, self.tokens, int(self.done is not None)


class _Reserved:
    """A reservation in Redis."""

    __slots__ = ("_left", "_open", "_rate", "_rates", "_tokens", "_who")

    def __init__(self, rates: "SharedRates", step: _Step, requests: float, tokens: float) -> None:
        self._rates = rates
        self._who = step.who
        self._rate = step.rate
        self._tokens = step.tokens
        self._left = (requests, tokens)
        self._open = True

    @property
    def lines(self) -> bytes:
        return header_lines(self._rate, *self._left)

    def settle(self, tokens: int) -> None:
        if self._open:
            self._open = False
            if tokens != self._tokens:
                self._rates.correct(self._who, self._rate, 0, tokens - self._tokens)

    def cancel(self) -> None:
        if self._open:
            self._open = False
            self._rates.correct(self._who, self._rate, -1, -self._tokens)


class SharedRates:
    """The buckets of one router's callers, in Redis while that is well. Needs `follow`, beside the traffic."""

    def __init__(
        self,
        connect: Callable[[], Redis],
        local: Rates,
        *,
        scope: str,
        deadline: float = DEADLINE_SECONDS,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """connect: asked again after each failure, so it may read a changed address. local: for while Redis is away.

        scope: what tells this router's callers from another's in the same Redis; all replicas of a router have the same.
        """
        self._connect = connect
        self._local = local
        self._prefix = f"tokenfleet:{{{scope}}}:rates:"  # In braces: a Redis Cluster keeps all of it on one node.
        self._deadline = deadline
        self._uniform = uniform
        self._loop = asyncio.get_running_loop()
        self._client: Redis | None = None
        self._connection: Any = None
        self._waiting: list[_Step] = []
        self._sender: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.redis_available = False
        self.fallbacks = 0
        """Requests that were decided without Redis, because it was away."""

    async def follow(self) -> None:
        """From start to close: for ever. Only cancelling ends it."""
        try:
            await self.start()
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def start(self) -> None:
        """Return with Redis at hand, or with a first failure; it is then tried on in the background."""
        error = await self._try()
        if error is None:
            self.redis_available = True
        else:
            self._leave(error)

    async def close(self) -> None:
        """Send what is left to settle, and end."""
        self._send()
        if self._sender is not None:
            await asyncio.wait((self._sender,), timeout=self._deadline)
        for task in (self._sender, self._prober):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await self._disconnect()

    def reserve(self, who: str, rate: Rate, tokens: int, done: Done) -> None:
        if rate.requests_per_minute is None and rate.tokens_per_minute is None:
            done(UNLIMITED)
        elif self.redis_available:
            self._waiting.append(_Step(who, rate, 1, tokens, self._loop.time() + self._deadline, done))
            self._send()
        else:
            self._fall_back(who, rate, tokens, done)

    def correct(self, who: str, rate: Rate, requests: int, tokens: int) -> None:
        """Take what a reservation took too little; below zero: give back."""
        if self.redis_available:
            self._waiting.append(_Step(who, rate, requests, tokens, inf, None))
            if self._sender is None and self._timer is None:
                self._timer = self._loop.call_later(_SETTLE_SECONDS, self._send)

    def _fall_back(self, who: str, rate: Rate, tokens: int, done: Done) -> None:
        self.fallbacks += 1
        self._local.reserve(who, rate, tokens, done)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is None and self._waiting:
            self._sender = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        """Send all that waits, one batch after the other."""
        try:
            while self._waiting and self.redis_available:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                deadline = min(self._loop.time() + self._deadline, *(step.deadline for step in batch))
                try:
                    async with asyncio.timeout_at(deadline):
                        answers = await self._run(batch)
                except Exception as error:  # noqa: BLE001 - whatever it is, requests wait for an answer
                    self._waiting = batch + self._waiting
                    self._leave(error)
                else:
                    self._tell(batch, answers)
        finally:
            self._sender = None

    async def _run(self, batch: Sequence[_Step]) -> list[int]:
        """Admitted or not, and what both buckets have left in thousandths, of each."""
        if self._connection is None:
            self._client = self._connect()
            self._connection = await self._client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        keys = [self._prefix + step.who for step in batch]
        steps = msgspec.json.encode([number for step in batch for number in step.arguments])
        try:
            return await _call(self._connection, "EVALSHA", SHA1, len(keys), *keys, steps)
        except NoScriptError:  # Redis is new, or began anew
            return await _call(self._connection, "EVAL", SCRIPT, len(keys), *keys, steps)

    def _tell(self, batch: Sequence[_Step], answers: Sequence[int]) -> None:
        for number, step in enumerate(batch):
            if step.done is not None:
                admitted, requests, tokens = answers[3 * number : 3 * number + 3]
                left = (requests / 1000, tokens / 1000)
                self._answer(step.done, _Reserved(self, step, *left) if admitted else refusal(step.rate, step.tokens, *left))

    def _answer(self, done: Done, what: Any) -> None:
        try:
            done(what)
        except Exception:  # One request's fault must not take the others' answers away.
            log.exception("a request failed at the answer to its reservation")

    def _leave(self, error: Exception) -> None:
        """Redis is away: decide what waits for it, and everything from now on, without it."""
        self.redis_available = False
        why = _why(error, self._deadline)
        log.warning("Redis is away (%s): each router now keeps to the limits by itself, and lets in a whole limit", why)
        waiting, self._waiting = self._waiting, []
        self._prober = self._loop.create_task(self._probe())
        for step in waiting:
            if step.done is not None:
                self._fall_back(step.who, step.rate, step.tokens, partial(self._answer, step.done))

    async def _probe(self) -> None:
        """Until Redis is well."""
        pause = _PAUSE_SECONDS
        while not self.redis_available:
            await self._disconnect()
            await asyncio.sleep(self._uniform(pause / 2, pause))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            error = await self._try()
            if error is None:
                self.redis_available = True
            else:
                log.debug("Redis is still away: %s", _why(error, self._deadline))
        log.warning("Redis is back: all routers share the limits again")

    async def _try(self) -> Exception | None:
        """What keeps Redis from being used: the very script is run, and within the deadline once the connection is there."""
        probe = _Step(_PROBE, Rate(1), 1, 0, 0.0, None)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._run((probe,))
            async with asyncio.timeout(self._deadline):
                await self._run((probe,))
        except Exception as error:  # noqa: BLE001 - whatever it is, Redis cannot be used
            return error
        return None

    async def _disconnect(self) -> None:
        connection, client = self._connection, self._client
        self._connection = self._client = None
        with suppress(RedisError, OSError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                if connection is not None:
                    await connection.disconnect(nowait=True)
                if client is not None:
                    await client.aclose()


async def _call(connection: Any, *words: str | bytes | int) -> list[int]:
    """On the connection itself: all that a client does around it costs more than the call."""
    await connection.send_command(*words)
    answer: list[int] = await connection.read_response()
    return answer


def _why(error: Exception, deadline: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {deadline * 1000:.0f} ms"
    return str(error) or type(error).__name__
