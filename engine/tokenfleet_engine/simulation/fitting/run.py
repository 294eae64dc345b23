"""Measures a real engine, fits the timing model, checks it on loads that the fit has not seen, and writes all of it down.

Takes a minute or two, in which nothing else may use the engine. The check gives the same mixed load to the engine and to the
simulator's scheduler and compares request by request; the error stands in the file beside the coefficients.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final

from tokenfleet_engine.say import say
from tokenfleet_engine.simulation.fitting import least_squares
from tokenfleet_engine.simulation.fitting.design import FIELDS, LUMPS, Equation, lumps, mixed_load, trials
from tokenfleet_engine.simulation.fitting.requests import Target
from tokenfleet_engine.simulation.replay import Outcome, replay
from tokenfleet_engine.simulation.settings import Settings
from tokenfleet_engine.simulation.timing import Coefficients, Timing

REPEATS: Final = 5
CHECK_REQUESTS: Final = 60
CHECK_REPEATS: Final = 4
CHECK_SHARES: Final = (0.3, 0.6, 0.9)
"""Of what the engine can do at most."""
LONG_ENOUGH: Final = 8
"""Tokens of an answer whose time between two says something."""
FIGURES: Final = ("first", "between", "total")


@dataclass(frozen=True, slots=True)
class Errors:
    """Of one load: what was measured and predicted in the mean, in ms, and the mean absolute error per request, in percent."""

    per_second: float
    figures: dict[str, dict[str, float]]


def fit(url: str, settings: Settings, *, out: Path, hardware: str, random: Random | None = None) -> int:
    random = random or Random(0)
    target = Target.find(url)
    say(f"fit: measuring {target.model} at {url}")
    target.run(mixed_load(8, per_second=8, context=settings.max_model_len, random=random), random=random)
    equations = list(_measure(target, settings, random))
    coefficients = solve(equations)
    off = fmean(abs(predict(each, coefficients) / each.seconds - 1) for each in equations) * 100
    for name, value in asdict(coefficients).items():
        say(f"fit: {name:<15}{value * 1e3:12.6f} ms")
    say(f"fit: {len(equations)} equations, off by {off:.1f} % in the mean")
    checks = [_check(target, settings, coefficients, share=share, random=random) for share in CHECK_SHARES]
    found: dict[str, Any] = {
        "model": target.model, "hardware": hardware, "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "limits": asdict(settings.limits), "equations": len(equations), "equations_error_percent": round(off, 1),
        "checks": [asdict(check) for check in checks],
    }  # fmt: skip
    Timing(coefficients, found).write(out)
    say(f"fit: written to {out}")
    return 0


def solve(equations: Sequence[Equation]) -> Coefficients:
    found = least_squares.fit([each.row for each in equations], [each.seconds for each in equations])
    return Coefficients(**dict(zip(FIELDS, found, strict=True)))


def predict(equation: Equation, coefficients: Coefficients) -> float:
    return float(sum(value * factor for value, factor in zip(equation.row, astuple(coefficients), strict=True)))


def compare(measured: Sequence[Outcome], predicted: Sequence[Outcome], *, per_second: float) -> Errors:
    figures = {}
    for name in FIGURES:
        pairs = [
            (getattr(real, name), getattr(ours, name))
            for real, ours in zip(measured, predicted, strict=True)
            if name != "between" or (len(real.tokens) >= LONG_ENOUGH and lumps(real) < LUMPS)
        ]
        figures[name] = {
            "measured_ms": round(fmean(real for real, _ in pairs) * 1e3, 2),
            "predicted_ms": round(fmean(ours for _, ours in pairs) * 1e3, 2),
            "error_percent": round(fmean(abs(ours / real - 1) for real, ours in pairs) * 100, 1),
        }
    return Errors(round(per_second, 2), figures)


def _measure(target: Target, settings: Settings, random: Random) -> Iterator[Equation]:
    """The quickest of a few, since other work on the machine only ever makes a trial slower."""
    for trial in trials(settings.limits, context=settings.max_model_len):
        tries = [trial.equation(target.run(trial.loads(), random=random)) for _ in range(REPEATS)]
        if whole := [each for each in tries if each is not None]:
            yield min(whole, key=lambda each: each.seconds)


def _check(target: Target, settings: Settings, coefficients: Coefficients, *, share: float, random: Random) -> Errors:
    per_second = share * _capacity(settings, coefficients, random)
    loads = mixed_load(CHECK_REQUESTS, per_second=per_second, context=settings.max_model_len, random=random)
    measured = quickest([target.run(loads, random=random) for _ in range(CHECK_REPEATS)])
    errors = compare(measured, replay(loads, settings.limits, coefficients), per_second=per_second)
    for name, each in errors.figures.items():
        say(
            f"fit: check at {per_second:.1f} requests/s, {name}: measured {each['measured_ms']:.1f} ms, predicted "
            f"{each['predicted_ms']:.1f} ms, off by {each['error_percent']:.1f} % per request"
        )
    return errors


def quickest(tries: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Of each request its quickest course: the same load each time, and other work on the machine only ever makes it slower."""
    return [min(each, key=lambda outcome: outcome.total) for each in zip(*tries, strict=True)]


def _capacity(settings: Settings, coefficients: Coefficients, random: Random) -> float:
    """Requests per second of a mixed load that is always there, as the model has it."""
    loads = mixed_load(CHECK_REQUESTS * 4, per_second=1e6, context=settings.max_model_len, random=Random(random.random()))
    outcomes = replay(loads, settings.limits, coefficients)
    return len(loads) / max(outcome.arrived + outcome.total for outcome in outcomes)
