"""A promise about latency, and what one request says of it. Pure.

A request that failed met no promise: it counts as late. For the time between tokens it counts with all the gaps that it should
have had.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

Metric = Literal["ttft", "itl", "tpot", "e2e"]
METRICS: Final = cast(tuple[Metric, ...], get_args(Metric))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """So many percent of all values are at most the limit."""

    metric: Metric
    limit: float
    """Seconds."""
    percentile: float = 95.0

    @property
    def share(self) -> float:
        return self.percentile / 100

    def as_json(self) -> dict[str, Any]:
        return {"metric": self.metric, "limitSeconds": self.limit, "percentile": self.percentile}


@dataclass(frozen=True, slots=True)
class Seen:
    """Values of one request."""

    within: int
    total: int


def observe(objective: Objective, values: Iterable[float], *, missing: int = 0) -> Seen:
    """values: of one request, in seconds: its gaps, or the one time that it took. missing: those that a failure took from
    it."""
    given = list(values)
    return Seen(sum(value <= objective.limit for value in given), len(given) + missing)
