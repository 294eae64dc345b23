"""What speaks for or against a canary: its requests, its failures and its first tokens, over restarts of this controller. Pure.

The routers' counters are cumulative, and begin anew with a controller, so what was counted is kept in the status beside the
counter that it was taken from. Few requests prove little: until the pause of a step is over,
failures count only where chance does not explain them (Wilson's interval), and slowness only where it lasts.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

from tokenfleet.controller import moments
from tokenfleet.controller.observed import Json, TrackLoad

MIN_REQUESTS: Final = 20
"""Before that many, failures are not judged until the pause is over."""
_Z: Final = 2.576
"""Of a normal distribution: 99 % are no further from its middle."""
SLOW_SECONDS: Final = 30.0
"""What `TrackLoad.ttft_p95` looks back on: after this, it speaks of none of the requests that it first spoke of."""
_RENEW_SECONDS: Final = 10.0
"""New figures alone are written no sooner than this."""


def seconds_between(before: str, after: str) -> float:
    """RFC 3339, both."""
    return moments.seconds(after) - moments.seconds(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """As of one moment."""

    since: str
    """When it got its first share."""
    time: str
    requests: int = 0
    failed: int = 0
    ttft_milliseconds: int | None = None
    slow_since: str | None = None
    counted: tuple[int, int] | None = None
    """The routers' counters at that time; None: they were not known yet."""

    @property
    def rate(self) -> float:
        """The part that failed; of nothing, nothing."""
        return self.failed / self.requests if self.requests else 0.0

    def taken(self, load: TrackLoad, *, max_ttft: int | None, now: str) -> "Figures":
        """With what has come in since."""
        requests, failed = _grown(self.counted, (load.requests, load.failed))
        ttft = None if load.ttft_p95 is None else round(load.ttft_p95 * 1000)
        slow = ttft is not None and max_ttft is not None and ttft > max_ttft
        return Figures(
            since=self.since,
            time=now,
            requests=self.requests + requests,
            failed=self.failed + failed,
            ttft_milliseconds=ttft,
            slow_since=(self.slow_since or now) if slow else None,
            counted=(load.requests, load.failed),
        )

    def are_worth_telling(self, known: "Figures") -> bool:
        """Whether to write them in place of those that stand in the status: each write wakes whoever watches."""
        if (self.slow_since, self.counted is None) != (known.slow_since, known.counted is None):
            return True
        return replace(self, time=known.time) != known and seconds_between(known.time, self.time) >= _RENEW_SECONDS

    def fail(self, max_rate: float) -> bool:
        """Whether so many failures, of at least so many requests, are no chance where the true rate is `max_rate`."""
        return self.requests >= MIN_REQUESTS and wilson_lower(self.failed, self.requests) > max_rate

    def slow_seconds(self) -> float:
        return 0.0 if self.slow_since is None else seconds_between(self.slow_since, self.time)

    def in_words(self) -> str:
        return f"{self.failed} of {self.requests} requests failed ({self.rate:.1%})"

    @classmethod
    def from_status(cls, status: Json) -> "Figures":
        """Of status.rollout.figures."""
        counted = (status["countedRequests"], status["countedFailed"]) if "countedRequests" in status else None
        return cls(
            since=status["since"],
            time=status["time"],
            requests=status.get("requests", 0),
            failed=status.get("failed", 0),
            ttft_milliseconds=status.get("ttftMilliseconds"),
            slow_since=status.get("slowSince"),
            counted=counted,
        )

    def as_status(self) -> Json:
        requests, failed = self.counted or (None, None)
        status = {
            "since": self.since,
            "time": self.time,
            "requests": self.requests,
            "failed": self.failed,
            "ttftMilliseconds": self.ttft_milliseconds,
            "slowSince": self.slow_since,
            "countedRequests": requests,
            "countedFailed": failed,
        }
        return {name: value for name, value in status.items() if value is not None}


def wilson_lower(failed: int, requests: int) -> float:
    """The lower end of Wilson's score interval: the least rate that makes so many failures plausible at 99 %."""
    if not requests:
        return 0.0
    rate, square = failed / requests, _Z * _Z
    middle = rate + square / (2 * requests)
    spread = _Z * sqrt(rate * (1 - rate) / requests + square / (4 * requests * requests))
    return (middle - spread) / (1 + square / requests)


def _grown(before: tuple[int, int] | None, now: tuple[int, int]) -> tuple[int, int]:
    """By how much both counters have grown; where one fell, they began anew, and are counted on from where they are."""
    if before is None or now[0] < before[0] or now[1] < before[1]:
        return 0, 0
    return now[0] - before[0], now[1] - before[1]
