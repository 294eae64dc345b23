"""What the pods have been doing of late: which have just begun to serve, and whether the percentiles speak of all of them.

A promise that is broken while replicas load says nothing of how many are needed, so no more are asked for until they serve; but
pods that load for ever are not waited for for ever.
"""

from tokenfleet.planning.scaling.policy import SETTLE_SECONDS, SLO_WINDOW_SECONDS, WARM_UP_SECONDS
from tokenfleet.planning.scaling.signal import Signal


class Fleet:
    """The replicas of one deployment over time."""

    def __init__(self, now: float) -> None:
        self._ready = self._starting = -1
        self._fresh = 0
        self._moved_at = now
        """When the number of those that serve rose last, or began to be known."""
        self._loading_at = now
        """When something last came of loading: more that load, or more that serve."""

    def observe(self, signal: Signal, now: float) -> None:
        known = self._ready >= 0
        if signal.ready > self._ready:
            self._fresh = signal.ready - self._ready if known else 0
            self._moved_at = self._loading_at = now
        if signal.starting > self._starting or not signal.starting:
            self._loading_at = now
        self._ready, self._starting = signal.ready, signal.starting

    def fresh(self, now: float) -> int:
        """Replicas that serve, and have yet to take what waits for them."""
        return min(self._fresh, self._ready) if now < self._moved_at + SETTLE_SECONDS else 0

    def settled_at(self, now: float) -> float | None:
        """From when on the percentiles speak of the replicas that there are; None: not before those that load serve."""
        loading = self._starting and now < self._loading_at + WARM_UP_SECONDS
        return None if loading else self._moved_at + SLO_WINDOW_SECONDS

    def changes_at(self) -> list[float]:
        """When time alone changes one of the two."""
        ends = [self._moved_at + SETTLE_SECONDS] if self._fresh else []
        return ends + ([self._loading_at + WARM_UP_SECONDS] if self._starting else [])
