"""A calibration out of measurements: the least squares of relative errors, over the logarithms of what is looked for.

Logarithms keep all of it above zero, and make 10 % too fast as bad as 10 % too slow; shares of something known stay below 1. A
faint pull towards where the search began keeps what the points say nothing of where it was. Six unknowns need no library
(`least_squares`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Final

from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.defaults import default_calibration
from tokenfleet.planning.speed.least_squares import minimise
from tokenfleet.planning.speed.points import Errors, Point, errors_of, predict
from tokenfleet.planning.speed.speed import Calibration, Speed

FITTED: Final = ("compute", "bandwidth", "experts", "step_seconds", "sequence_seconds", "request_seconds")
PULL: Final = 0.05
"""Of the beginning: as much as a point that is off by 5 % where a value is off by a factor of e."""
_FAR: Final = 0.2
_FOLDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Points of one model as it was run."""

    points: Sequence[Point]
    model: ModelFacts
    serving: Serving
    memory: Memory | None = None


def fit(
    points: Sequence[Point],
    model: ModelFacts,
    serving: Serving,
    *,
    held_out: Sequence[Point] = (),
    memory: Memory | None = None,
    source: str = "measurements",
) -> Calibration:
    """Its error is that of the points held out; without any, each fifth of the points is predicted from the others.

    Raises ValueError where there are no points.
    """
    if not points:
        raise ValueError("a calibration needs at least one measured point")
    whole = Measured(points=points, model=model, serving=serving, memory=memory)
    found = replace(fit_all([whole], beginning(whole)), source=source)
    if held_out:
        return with_errors(found, errors_of(predictions([replace(whole, points=held_out)], found)))
    return with_errors(found, _cross_validated(whole, found))


def beginning(measured: Measured) -> Calibration:
    """Where the search begins. For a class without figures: as if the slowest prompt only computed, and the fastest step
    only read."""
    accelerator, model = measured.serving.accelerator, measured.model
    if accelerator.plannable:
        return default_calibration(accelerator)
    itl = min((each.itl for each in measured.points if each.itl), default=0.02)
    ttft = max(((each.input_tokens, each.ttft) for each in measured.points if each.ttft), default=(1000, 1.0))
    return Calibration(
        compute=1.0,
        bandwidth=1.0,
        flops=2 * max(model.active_parameters, 1) * ttft[0] / ttft[1] * 2,
        memory_bandwidth=max(model.weight_bytes, 1) / itl * 2,
        step_seconds=itl / 2,
        sequence_seconds=itl / 100,
        request_seconds=itl / 2,
        error=0.0,
        source="",
    )


def fit_all(
    measured: Sequence[Measured], begin: Calibration, *, only: Sequence[str] = FITTED, pull: float = PULL
) -> Calibration:
    """One calibration for several models, or for one model as it was run in several ways; what is not fitted stays."""
    start = [_unbounded(name, getattr(begin, name), begin) for name in only]

    def residuals(values: Sequence[float]) -> list[float]:
        calibration = _calibration(begin, only, values)
        found = [(value - first) * pull for value, first in zip(values, start, strict=True)]
        for each in measured:
            for point in each.points:
                speed = predict(point, each.model, each.serving, calibration, each.memory)
                found += [_softened(log(getattr(speed, name) / value)) for name, value in point.measured.items() if value]
        return found

    return _absolute(_calibration(begin, only, minimise(residuals, start)))


def _softened(residual: float) -> float:
    """Its square grows as the residual's does, and beyond _FAR no faster than the residual: one odd run shall not bend the
    rest (Charbonnier et al. 1994; "soft l1")."""
    softened = _FAR * sqrt(2 * (sqrt(1 + (residual / _FAR) ** 2) - 1))
    return softened if residual > 0 else -softened


def _calibration(begin: Calibration, names: Sequence[str], values: Sequence[float]) -> Calibration:
    found = {name: _bounded(name, value, begin) for name, value in zip(names, values, strict=True)}
    return replace(begin, **found)  # type: ignore[arg-type]


def _is_share(name: str, begin: Calibration) -> bool:
    """Of something known, so that it cannot be more than all of it."""
    return (name == "compute" and begin.flops is None) or (name == "bandwidth" and begin.memory_bandwidth is None)


def _unbounded(name: str, value: float, begin: Calibration) -> float:
    return log(value / (1 - value)) if _is_share(name, begin) else log(value)


def _bounded(name: str, value: float, begin: Calibration) -> float:
    return 1 / (1 + exp(-value)) if _is_share(name, begin) else exp(value)


def _absolute(calibration: Calibration) -> Calibration:
    """Of absolute figures the share is 1: nothing says how much of them another engine would leave."""
    if calibration.flops is None or calibration.memory_bandwidth is None:
        return calibration
    return replace(
        calibration,
        flops=calibration.flops * calibration.compute,
        memory_bandwidth=calibration.memory_bandwidth * calibration.bandwidth,
        compute=1.0,
        bandwidth=1.0,
    )


def predictions(measured: Sequence[Measured], calibration: Calibration) -> list[tuple[Point, Speed]]:
    return [
        (point, predict(point, each.model, each.serving, calibration, each.memory))
        for each in measured
        for point in each.points
    ]


def with_errors(calibration: Calibration, errors: Errors) -> Calibration:
    return replace(
        calibration, error=errors.mean, ttft_error=errors.ttft, itl_error=errors.itl, throughput_error=errors.throughput
    )


def _cross_validated(whole: Measured, found: Calibration) -> Errors:
    if len(whole.points) < 2:
        return errors_of(predictions([whole], found))
    folds = min(_FOLDS, len(whole.points))
    pairs = []
    for fold in range(folds):
        rest = [point for number, point in enumerate(whole.points) if number % folds != fold]
        without = fit_all([replace(whole, points=rest)], beginning(whole))
        pairs += predictions([replace(whole, points=whole.points[fold::folds])], without)
    return errors_of(pairs)
