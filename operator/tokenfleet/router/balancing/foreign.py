"""What other routers have in flight on a replica, as far as this one can tell.

An engine says on each answer how many requests it has in flight; less this router's own, the rest is foreign. It is our own
engine's exact count (contract.HEADER_IN_FLIGHT). vLLM's ORCA header `endpoint-load-metrics` would add nothing: it comes only
where a request header asks for it and never on a stream, costs a walk over Prometheus' whole registry and a line of the log,
and tells of requests that wait in the engine and of the KV cache, but not of requests that run.

A report is old when it arrives, and all routers get the same ones. Were each to believe the latest, all would run to the same
replica and away again. So a report moves the estimate by a part only, and many move it no faster than a few: what lasts is seen
within seconds, what passes hardly at all. A replica of which nothing is heard tends to the mean of the others: neither shunned
for long nor rushed at.
"""

import math
from collections.abc import Sequence
from typing import Final

GAIN: Final = 0.2
"""The part by which a report moves the estimate, at most."""
SETTLE_SECONDS: Final = 2.0
"""Time constant of many reports. It must be long beside the way of a request to its engine and back: with a shorter one routers
answer to what they themselves have just done, and the load swings."""
FADE_SECONDS: Final = 3.0
"""Time constant towards the mean, while nothing is heard."""
FORGET_SECONDS: Final = 10.0
"""After so long without a report an estimate counts in no mean."""
_GRAIN: Final = 8


class Foreign:
    """On one replica."""

    __slots__ = ("_heard", "estimate")

    def __init__(self) -> None:
        self.estimate = 0.0
        self._heard = -math.inf
        """When the latest report came."""

    def report(self, others: int, now: float) -> bool:
        """An answer says that others have so many there (fewer than none: the engine has yet to see some of ours). Whether that
        changes the estimate."""
        since, self._heard = now - self._heard, now
        if others <= 0:
            if not self.estimate:
                return False
            others = 0
        self.estimate += min(GAIN, since / SETTLE_SECONDS) * (others - self.estimate)
        return True

    @property
    def load(self) -> float:
        """The estimate in eighths, so that what is left of faded ones does not decide between equals."""
        return round(self.estimate * _GRAIN) / _GRAIN


def fade(every: Sequence[Foreign], now: float, seconds: float) -> bool:
    """Let time pass over the replicas of one pool. Whether there is anything left to fade."""
    known = [one.estimate for one in every if now - one._heard < FORGET_SECONDS]
    mean = sum(known) / len(known) if known else 0.0
    part = -math.expm1(-seconds / FADE_SECONDS)
    for one in every:
        if now - one._heard >= seconds:
            one.estimate += part * (mean - one.estimate)
            if not one.load:
                one.estimate = 0.0
    return any(one.estimate for one in every)
