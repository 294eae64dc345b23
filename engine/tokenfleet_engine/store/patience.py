"""How long a store may be away: waits between tries, which grow, differ from pod to pod, and end.

What counts is the time without any progress, not the number of tries: a download of a day may break a hundred times, and a
store that is gone is given up after minutes. Clock, chance and sleep are parameters.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.say import say
from tokenfleet_engine.store.remote import Transient

LONGEST_WAIT: Final = 20.0
_T = TypeVar("_T")


class Patience:
    def __init__(
        self,
        *,
        host: str,
        seconds: float,
        kept: str = "",
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """kept: a sentence on what becomes of what is there already, where there may be something."""
        self._host = host
        self._seconds = seconds
        self._kept = kept
        self._clock, self._chance, self._sleep = clock, chance, sleep
        self._progress = clock()
        self._said = ""

    def progressed(self) -> None:
        self._progress = self._clock()

    async def wait(self, error: Transient, *, tries: int) -> None:
        """Until another try makes sense. Raises EngineFailure where that would take longer than anybody should wait."""
        away = self._clock() - self._progress
        delay = min(LONGEST_WAIT, 0.5 * 2**tries) * (0.5 + self._chance() / 2)
        if error.retry_after is not None:
            delay = error.retry_after + self._chance()
        if away + delay > self._seconds:
            raise self._gone(error, away) from error
        if str(error) != self._said:  # once, not for each of the streams that it breaks
            self._said = str(error)
            say(f"{error}; trying again")
        await self._sleep(delay)

    async def insist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """The attempt's result, after as many tries as it takes."""
        tries = 0
        while True:
            try:
                return await attempt()
            except Transient as error:
                await self.wait(error, tries=tries)
                tries += 1

    def _gone(self, error: Transient, away: float) -> EngineFailure:
        said = f"The model store at {self._host} is out of reach: {error} (no progress for {away:.0f} s)."
        step = "Check that one can and may get there from here: DNS, NetworkPolicy, proxy, endpoint."
        return EngineFailure(contract.REASON_MODEL_STORE_UNREACHABLE, " ".join(filter(None, (said, self._kept, step))))
