"""Measurements of a replica, and how far a calibration's predictions are from them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.estimate import estimate_speed
from tokenfleet.planning.speed.speed import Calibration, Speed, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run: the load, and the means that were measured; what was not measured is None."""

    input_tokens: int
    output_tokens: int
    concurrency: float | None = None
    rate: float | None = None
    cached_share: float = 0.0
    ttft: float | None = None
    itl: float | None = None
    output_tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.workload and all(value is None for value in self.measured.values()):
            raise ValueError("a point has at least one of ttft, itl and output_tokens_per_second")
        for name, value in self.measured.items():
            if value is not None and not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be above 0 (given: {value:g})")

    @property
    def workload(self) -> Workload:
        return Workload(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            concurrency=self.concurrency,
            rate=self.rate,
            cached_share=self.cached_share,
        )

    @property
    def measured(self) -> dict[str, float | None]:
        return {"ttft": self.ttft, "itl": self.itl, "output_tokens_per_second": self.output_tokens_per_second}

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Mean relative errors; None where nothing of the kind was measured."""

    ttft: float | None
    itl: float | None
    throughput: float | None

    @property
    def mean(self) -> float:
        known = [each for each in (self.ttft, self.itl, self.throughput) if each is not None]
        return fmean(known) if known else 0.0


def predict(point: Point, model: ModelFacts, serving: Serving, calibration: Calibration, memory: Memory | None = None) -> Speed:
    return estimate_speed(model, serving, point.workload, calibration, memory=memory)


def errors_of(pairs: Iterable[tuple[Point, Speed]]) -> Errors:
    """Of predictions: |predicted / measured - 1| in the mean."""
    found: dict[str, list[float]] = {"ttft": [], "itl": [], "output_tokens_per_second": []}
    for point, speed in pairs:
        for name, value in point.measured.items():
            if value is not None:
                found[name].append(abs(getattr(speed, name) / value - 1))
    return Errors(ttft=_mean(found["ttft"]), itl=_mean(found["itl"]), throughput=_mean(found["output_tokens_per_second"]))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
