"""What a replica turned out not to carry, so that a step down that was a mistake is made once and not every five minutes.

An engine becomes slower with every request that it has, and how much depends on model, GPU and prompts; no field says it. So
two things are remembered, as requests per replica: a load under which a promise was broken, and a load that was moved onto
fewer replicas and sent them back up within a window.
"""

from tokenfleet.planning.scaling.policy import FIT_SLO, LESSON_SECONDS, Policy


class Lessons:
    """The load that is too much for a replica, where something is known of it."""

    def __init__(self) -> None:
        self._limit: float | None = None
        self._until = 0.0
        self._lowered: tuple[float, float, int] | None = None
        """The last step down: when, the highest load that it went by, and to how many."""

    def carries(self, policy: Policy, now: float) -> float:
        """Requests that a replica carries with room to spare."""
        if self._limit is None or now >= self._until:
            return policy.carries
        return max(min(policy.carries, FIT_SLO * self._limit), 1.0)

    def forgets_at(self) -> float | None:
        return self._until if self._limit is not None else None

    def broke(self, load: float, now: float) -> None:
        """A promise was broken with so many requests for each replica."""
        known = self._limit if self._limit is not None and now < self._until else load
        self._limit, self._until = max(min(known, load), 1.0), now + LESSON_SECONDS

    def lowered(self, load: float, count: int, now: float) -> None:
        self._lowered = (now, load, count)

    def raised(self, policy: Policy, now: float) -> None:
        """More are wanted. Soon after a step down, that was a mistake, unless it went by so little that the load is new."""
        lowered, self._lowered = self._lowered, None
        if lowered is None:
            return
        at, load, count = lowered
        if count and now < at + policy.stabilization_seconds and load >= count * policy.carries / 2:
            self.broke(load / count, now)
