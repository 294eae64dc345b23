"""What was so lately: a mean and a rate that follow the clock, not the number of samples, and forget by themselves.

A sample's weight halves about every seven seconds (it falls by e in RECENT_SECONDS), so a burst of a thousand and a single
one are both forgotten in the same time. Pure but for the numbers they keep: every verb is told what time it is.
"""

from math import exp
from typing import Final

RECENT_SECONDS: Final = 10.0
_FORGOTTEN_SECONDS: Final = 7 * RECENT_SECONDS
"""After which a thousandth of a weight is left, which counts as nothing."""


class Mean:
    """Of recent samples; it falls to 0 when none come, so that nobody acts on old news."""

    __slots__ = ("_at", "_sum", "weight")

    def __init__(self) -> None:
        self._at = 0.0
        self._sum = 0.0
        self.weight = 0.0
        """0: there is nothing recent, and `value` is 0 without a look at the clock."""

    def add(self, sample: float, now: float) -> None:
        decay = exp((self._at - now) / RECENT_SECONDS)
        self._sum = self._sum * decay + sample
        self.weight = self.weight * decay + 1.0
        self._at = now

    def value(self, now: float) -> float:
        """The samples' mean, weighted by their age, times e^-(the age of the last one)."""
        if not self.weight:
            return 0.0
        age = now - self._at
        if age > _FORGOTTEN_SECONDS:
            self.weight = self._sum = 0.0
            return 0.0
        return self._sum / self.weight * exp(-age / RECENT_SECONDS)


class Rate:
    """Of events a second, over the recent time in which there could have been any."""

    __slots__ = ("_at", "_busy", "_count", "_seconds")

    def __init__(self) -> None:
        self._at = 0.0
        self._busy = False
        self._count = 0.0
        self._seconds = 0.0

    def begin(self, now: float) -> None:
        """From now on there can be events."""
        self._pass(now)
        self._busy = True

    def end(self, now: float) -> None:
        """There can be none until `begin`; this time does not count."""
        self._pass(now)
        self._busy = False

    def event(self, now: float) -> None:
        self._pass(now)
        self._count += 1.0

    def value(self, now: float, *, prior: float) -> float:
        """Events a second. prior: what stands in for what is missing to a first second."""
        self._pass(now)
        missing = max(0.0, 1.0 - self._seconds)
        return (self._count + prior * missing) / (self._seconds + missing)

    def _pass(self, now: float) -> None:
        decay = exp((self._at - now) / RECENT_SECONDS)
        self._count *= decay
        self._seconds *= decay
        if self._busy:
            self._seconds += RECENT_SECONDS * (1.0 - decay)
        self._at = now
