"""What a comparison comes to: a ratio over rounds, both sides' figures for people, and a line of the table."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ratio:
    """One thing by another, round by round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> "Ratio":
        return cls(tuple(first / second for first, second in pairs))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.values):.2f}–{max(self.values):.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, and what of it goes into the JSON."""

    title: str
    figures: dict[str, str]
    """What both sides came to, for people."""
    ratio: Ratio
    wanted: str
    result: Any
    details: dict[str, Any] = field(default_factory=dict)


def milliseconds(**sides: Sequence[float]) -> dict[str, str]:
    """Medians of seconds."""
    return {name: f"{1000 * statistics.median(values):,.1f} ms" for name, values in sides.items()}


def per_second(**sides: Sequence[float]) -> dict[str, str]:
    """Medians of rates."""
    return {name: f"{statistics.median(values):,.0f}/s" for name, values in sides.items()}


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
