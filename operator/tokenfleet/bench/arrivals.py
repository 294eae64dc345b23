"""When requests are to be sent: patterns as data, and what makes times of them. Pure; chance is a parameter.

A closed loop has users, each with one request at a time, so a slow server is asked less often. An open loop has moments that
do not depend on the server: as the world's users have, who do not know of each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as numbers
from math import sqrt
from random import Random
from typing import Literal

Process = Literal["poisson", "constant"]


@dataclass(frozen=True, slots=True)
class Closed:
    """So many users; each sends the next request when it has had its answer, and thought."""

    concurrency: int
    think: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Open:
    """So many requests a second."""

    rate: float
    process: Process = "poisson"


@dataclass(frozen=True, slots=True)
class Ramp:
    """A rate that rises, or falls, evenly for so many seconds, and stays there."""

    first: float
    last: float
    seconds: float
    process: Process = "poisson"


@dataclass(frozen=True, slots=True)
class Trace:
    """Moments that were recorded, in seconds since the first."""

    times: tuple[float, ...]


Arrivals = Open | Ramp | Trace
"""Open loops."""
Pattern = Closed | Arrivals


def arrivals(pattern: Arrivals, chance: Random, *, count: int | None = None) -> Iterator[float]:
    """Seconds since the run began, never falling; without end but for a trace.

    Where a Poisson process is to have exactly `count` arrivals, they are stretched so that the last comes at count / rate:
    then the rate of every seed is the one that was asked for, and not one that chance made 10 % larger. `vllm bench serve`
    does the same.
    """
    match pattern:
        case Trace(times):
            yield from times
        case Ramp():
            yield from (_ramp_time(pattern, unit) for unit in _units(pattern.process, chance))
        case Open(rate, "poisson") if count is not None:
            units = [unit for unit, _ in zip(_units("poisson", chance), range(count), strict=False)]
            yield from (unit * count / units[-1] / rate for unit in units)
        case Open(rate, process):
            yield from (unit / rate for unit in _units(process, chance))


def _units(process: Process, chance: Random) -> Iterator[float]:
    """Arrivals at rate 1. Evenly spaced ones begin at 0."""
    if process == "constant":
        yield from map(float, numbers())
        return
    now = 0.0
    while True:
        now += chance.expovariate(1.0)
        yield now


def _ramp_time(ramp: Ramp, expected: float) -> float:
    """When so many arrivals are expected: the inverse of first*t + (last - first)*t^2 / (2*seconds)."""
    within = (ramp.first + ramp.last) / 2 * ramp.seconds
    if expected == 0:
        return 0.0
    if expected >= within:
        return ramp.seconds + (expected - within) / ramp.last
    slope = (ramp.last - ramp.first) / ramp.seconds
    if slope == 0:
        return expected / ramp.first
    return 2 * expected / (ramp.first + sqrt(max(0.0, ramp.first**2 + 2 * slope * expected)))
