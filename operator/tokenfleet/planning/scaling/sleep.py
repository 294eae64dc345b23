"""When a deployment has nothing to do, and when it has again: idleness by two clocks, of which the later counts.

The routers say how long ago the last request was; one that began a minute ago cannot know of those before. So nothing sleeps
sooner than its idle time after this began to look.
"""

from typing import Final

from tokenfleet.planning.scaling import reasons
from tokenfleet.planning.scaling.demand import Want, counted
from tokenfleet.planning.scaling.policy import Policy
from tokenfleet.planning.scaling.signal import Signal

_REPORT_SECONDS: Final = 2.0
"""By so much a report may be late, and a request seem younger than it is."""


class Sleep:
    """Of one deployment."""

    def __init__(self, now: float) -> None:
        self._busy_at = now
        self._asleep_at = now

    def busy(self, now: float) -> None:
        """It has something to do, or may have."""
        self._busy_at = now

    def begins(self, now: float) -> None:
        self._asleep_at = now

    def idle_at(self, policy: Policy, signal: Signal, now: float) -> float | None:
        """When it may be put to sleep if nothing comes; None: not at all."""
        if policy.scale_to_zero_seconds is None or signal.load:
            return None
        idle = now - self._busy_at
        if signal.idle_seconds is not None:
            idle = min(idle, signal.idle_seconds)
        return now - idle + policy.scale_to_zero_seconds

    def wake(self, signal: Signal, now: float) -> Want | None:
        """What is wanted of a deployment that sleeps: also for a request that came and could not wait."""
        if signal.load:
            return Want(1, reasons.WAKE_UP, f"{counted(signal.load, 'request waits', 'requests wait')}, and none was wanted")
        if signal.idle_seconds is not None and now - signal.idle_seconds > self._asleep_at + _REPORT_SECONDS:
            return Want(1, reasons.WAKE_UP, "A request came, and none was wanted")
        return None
