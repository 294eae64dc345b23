"""How loaded an engine is, and whether it takes one more: arithmetic on figures that somebody else reads.

Load is the nearest of its bounds: requests in flight, requests in vLLM's queue, and the seconds that a newcomer would wait
there. At 1 the newcomer is refused. That wait is not what others have waited, which vLLM tells only once they have ended,
minutes later: it is how many wait, by how fast the engine began requests while some had to wait (Little's law).
"""

import math
from dataclasses import dataclass
from typing import Final

from tokenfleet_engine.serving.bounds import Bounds

WINDOW_SECONDS: Final = 10.0
"""For how long what was seen counts: to 1/e."""
RETRY_SECONDS: Final = (1, 30)
RETRY_UNKNOWN_SECONDS: Final = 5
"""Where hardly anything has ended of late, so that nobody knows."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one moment. `waiting` and `queue_seconds` are 0 where the engine does not tell."""

    in_flight: int
    waiting: float = 0.0
    queue_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    factor: float
    bound: str
    """The nearest: a field's name in Bounds."""

    @property
    def full(self) -> bool:
        return self.factor >= 1


def assess(figures: Figures, bounds: Bounds) -> Load:
    """Before a newcomer counts."""
    load = Load(figures.in_flight / bounds.in_flight, "in_flight")
    if (waiting := figures.waiting / bounds.waiting) > load.factor:
        load = Load(waiting, "waiting")
    if (wait := figures.queue_seconds / bounds.queue_seconds) > load.factor:
        load = Load(wait, "queue_seconds")
    return load


def explain(load: Load, figures: Figures, bounds: Bounds) -> str:
    """For who is refused."""
    limit = getattr(bounds, load.bound)
    return {
        "in_flight": f"This replica has {figures.in_flight} requests in flight and takes {limit:.0f}.",
        "waiting": f"{figures.waiting:.0f} requests wait in this replica's queue and {limit:.0f} may.",
        "queue_seconds": f"A request would wait {figures.queue_seconds:.1f} s in this replica's queue and may {limit:g} s.",
    }[load.bound]


def retry_after(figures: Figures, *, ended_per_second: float) -> int:
    """Whole seconds until those that wait have had their turn, as fast as requests ended of late."""
    least, most = RETRY_SECONDS
    if ended_per_second * most < 1:
        return RETRY_UNKNOWN_SECONDS
    return max(least, min(most, math.ceil(max(1.0, figures.waiting) / ended_per_second)))


class Rate:
    """How often something happens per second, of late."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._at = now
        self._count = 0.0

    def mark(self, now: float) -> None:
        self._fade(now)
        self._count += 1

    def per_second(self, now: float) -> float:
        self._fade(now)
        seen = WINDOW_SECONDS * (1 - math.exp((self._since - now) / WINDOW_SECONDS))
        return self._count / seen if seen > 0 else 0.0

    def _fade(self, now: float) -> None:
        self._count *= math.exp((self._at - now) / WINDOW_SECONDS)
        self._at = now


class Queue:
    """How long a newcomer would wait in the engine's queue. Learns from looks at it, however far apart."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._waiting = 0.0
        self._begun = 0.0
        self._busy_seconds = 0.0
        self._busy_begun = 0.0

    def look(self, now: float, *, waiting: float, begun: float) -> float:
        """`begun`: how many requests the engine has begun ever. Returns seconds."""
        if self._at is not None:
            faded = math.exp((self._at - now) / WINDOW_SECONDS)
            self._busy_seconds *= faded
            self._busy_begun *= faded
            if self._waiting and waiting:  # only while some wait does the engine show how fast it is
                self._busy_seconds += now - self._at
                self._busy_begun += max(0.0, begun - self._begun)
        self._at, self._waiting, self._begun = now, waiting, begun
        return waiting * self._busy_seconds / max(1.0, self._busy_begun)

    def rest(self) -> None:
        """Nobody waits: the time until the next look says nothing of how fast the engine is."""
        self._waiting = 0.0
