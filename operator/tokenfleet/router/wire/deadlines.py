"""One wheel for all deadlines: whatever waits on the outside stands in it with the time at which it gives up.

Setting a deadline is storing a number (`thing.deadline = deadlines.after(seconds)`), so it costs nothing on the hot path, not
even a look at the clock: a few times a second the wheel looks at it, and at everything that waits. Deadlines may thus fire two
turns late, never early.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

NEVER: Final = math.inf
TURN_SECONDS: Final = 0.25


class Waiting(Protocol):
    """Something with a deadline."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed. Must move or clear it, or leave the wheel."""


class Deadlines:
    """Of one event loop."""

    __slots__ = ("_clock", "_next", "_timer", "_waiting")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = clock() + TURN_SECONDS
        """When the wheel turns next; it is never later than that now."""
        self._waiting: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: Waiting) -> None:
        self._waiting.add(waiting)

    def discard(self, waiting: Waiting) -> None:
        self._waiting.discard(waiting)

    @property
    def waiting(self) -> int:
        """How many stand in the wheel."""
        return len(self._waiting)

    def now(self) -> float:
        """On the clock that deadlines go by."""
        return self._clock()

    def after(self, seconds: float) -> float:
        """A deadline so many seconds away, and up to a turn more."""
        return self._next + seconds

    def sweep(self) -> None:
        """Expire what is due."""
        now = self._clock()
        self._next = now + TURN_SECONDS
        for waiting in [waiting for waiting in self._waiting if waiting.deadline <= now]:
            try:
                if waiting.deadline <= now:  # Another one's handler may have put it to use again.
                    waiting.expire()
            except Exception:  # One broken connection must not take the others' deadlines away.
                log.exception("a deadline's handler failed; it is dropped")
                self._waiting.discard(waiting)

    def turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sweep, again and again until `stop`."""
        self._timer = loop.call_later(TURN_SECONDS, self.turn, loop)
        self.sweep()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
