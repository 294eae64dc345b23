"""Failures to order: what a fleet has to survive, happening when it is asked for and not when it is rare.

Each is a flag of its own and off by default. Which requests fail is drawn by a generator of the process's own, so that
replicas with the same flags do not fail together. Must not act: it answers what is due, and who asks does it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Seconds count from when the engine began to serve; None: never."""

    fail_rate: float = 0.0
    abort_rate: float = 0.0
    crash_after: float | None = None
    crash_after_requests: int | None = None
    crash_code: int = 1
    hang_after: float | None = None
    unhealthy_after: float | None = None
    slow_after: float = 0.0
    slow_factor: float = 1.0


class Faults:
    def __init__(self, orders: Orders, *, random: Random, clock: Callable[[], float]) -> None:
        self.orders = orders
        self._random = random
        self._clock = clock
        self._began = clock()
        self._requests = 0

    @property
    def served_seconds(self) -> float:
        return self._clock() - self._began

    def request(self) -> bool:
        """One more request came: True where it is to be answered with 500."""
        self._requests += 1
        return self._draw(self.orders.fail_rate)

    def cut_after(self, tokens: int) -> int | None:
        """After how many tokens a stream of at most so many breaks off."""
        return self._random.randint(1, tokens) if self._draw(self.orders.abort_rate) else None

    def crashes(self) -> bool:
        most = self.orders.crash_after_requests
        return self._due(self.orders.crash_after) or (most is not None and self._requests > most)

    def hangs(self) -> bool:
        return self._due(self.orders.hang_after)

    def healthy(self) -> bool:
        return not self._due(self.orders.unhealthy_after)

    def slowness(self) -> float:
        return self.orders.slow_factor if self._due(self.orders.slow_after) else 1.0

    def _draw(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _due(self, after: float | None) -> bool:
        return after is not None and self.served_seconds >= after
