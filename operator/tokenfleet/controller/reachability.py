"""Whether the API server answers, shared by all who talk to it: while it does not, everybody waits the same jittered while.

Without it, a thousand LLMDeployments would each find out on their own, again and again. The wait doubles with every failure
up to a cap and has no end: an API server that is away for ten minutes is no reason to crash. A Retry-After is honoured.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

logger = logging.getLogger(__name__)

FIRST_SECONDS: Final = 0.2
CAP_SECONDS: Final = 8.0


class Reachability:
    """`failed` and `succeeded` are told after each call; `wait` returns when the next call may be tried."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._failures = 0
        self._since: float | None = None
        self._not_before = 0.0

    @property
    def away(self) -> bool:
        return self._since is not None

    def failed(self, why: str, *, retry_after: float | None = None) -> None:
        """A call came to nothing. Failures of calls that were under way together count once."""
        now = self._clock()
        if self._since is None:
            self._since = now
            logger.warning("The API server does not answer (%s): waiting for it, as long as it takes.", why)
        if now < self._not_before:
            return
        ceiling = min(CAP_SECONDS, FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._not_before = now + max(retry_after or 0.0, ceiling * (0.5 + self._jitter() / 2))

    def succeeded(self) -> None:
        if self._since is not None:
            logger.info("The API server answers again after %.1f s.", self._clock() - self._since)
            self._since = None
            self._failures = 0
            self._not_before = 0.0

    async def wait(self) -> None:
        while (remaining := self._not_before - self._clock()) > 0:
            await self._sleep(remaining)
