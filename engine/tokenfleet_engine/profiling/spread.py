"""The middle and the edges of repeated measurements: median, 10th and 90th percentile.

No mean and no deviation: a step that the machine's other work delayed would pull at both. Percentiles lie between two
samples where they must (linear interpolation, as numpy's default and `statistics.quantiles(method="inclusive")` have it).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    p10: float
    p90: float


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    ordered = sorted(samples)
    return Spread(median=_quantile(ordered, 0.5), p10=_quantile(ordered, 0.1), p90=_quantile(ordered, 0.9))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
