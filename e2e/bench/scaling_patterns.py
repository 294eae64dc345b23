"""The loads on which rules of scaling are compared: how many requests come in each second, and the requests themselves.

Arrivals are at random times (Poisson, by thinning), answers of random lengths; both by a stated seed, so every rule sees the
same requests.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenfleet.planning.scaling.simulation import Request

MEAN_TOKENS: Final = 200.0
_SIGMA: Final = 0.6
"""Of the lengths' logarithm: some answers are four times as long as others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    name: str
    title: str
    seconds: float
    seed: int
    peak: float
    """Requests a second, at most."""
    rate: Callable[[float], float]
    """Requests a second, by time."""
    least: int = 1
    """minReplicas, where the rule can: an HPA has at least 1."""
    sleeps_after: float | None = None
    replicas: int = 1
    """At the beginning."""
    cheaper: bool = True
    """Ours is wanted to need fewer replica-hours here."""

    def requests(self) -> list[Request]:
        chance = random.Random(self.seed)
        found, at = [], chance.expovariate(self.peak)
        while at < self.seconds:
            if chance.random() * self.peak < self.rate(at):
                tokens = MEAN_TOKENS * chance.lognormvariate(-(_SIGMA**2) / 2, _SIGMA)
                found.append(Request(at, max(tokens, 1.0)))
            at += chance.expovariate(self.peak)
        return found


def _step(at: float) -> float:
    return 28.0 if 900 <= at < 2700 else 4.0


def _ramp(at: float) -> float:
    if at < 2400:
        return 2.0 + 28.0 * at / 2400
    return 30.0 if at < 3000 else max(30.0 - 28.0 * (at - 3000) / 2400, 2.0)


def _burst(at: float) -> float:
    return 30.0 if at >= 600 and at % 900 < 120 else 10.0


def _spikes(at: float) -> float:
    return 30.0 if at >= 600 and at % 900 < 120 else 4.0


def _night(at: float) -> float:
    hour = at / 3600
    if hour < 1:
        return 12.0 * (1 - hour)
    return 0.0003 if hour < 5 else 12.0 * (hour - 5)


PATTERNS: Final = (
    Pattern(name="step", title="a step: 4 to 28 requests/s and back", seconds=5400, seed=1, peak=28, rate=_step),
    Pattern(name="ramp", title="a ramp: 2 to 30 requests/s in 40 minutes, and back", seconds=5400, seed=2, peak=30, rate=_ramp),
    Pattern(
        name="burst",
        title="bursts: 2 minutes of 30 requests/s on 10 every 15 minutes",
        seconds=5400,
        seed=3,
        peak=30,
        rate=_burst,
        replicas=2,
    ),
    Pattern(
        name="spikes",
        title="spikes: 2 minutes of 30 requests/s on 4, which one replica carries, every 15 minutes",
        seconds=5400,
        seed=3,
        peak=30,
        rate=_spikes,
        cheaper=False,
    ),
    Pattern(
        name="night",
        title="a quiet night: 12 requests/s fading to one an hour, and back",
        seconds=6 * 3600,
        seed=4,
        peak=12,
        rate=_night,
        least=0,
        sleeps_after=600,
        replicas=3,
    ),
)
