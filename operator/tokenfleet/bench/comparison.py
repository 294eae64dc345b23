"""Whether one side of a comparison is better than the other, figure by figure, each with a confidence interval.

A side is one run or several of the same. Of a run the figures are drawn again (`bootstrap`); of a side with several runs
these are drawn as well, since what differs from one run to the next is often more than what differs within (hierarchical
data: A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, 3.8). A difference whose interval holds zero is
none that was shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Final, Literal

from tokenfleet.bench.bootstrap import Drawn, redraw
from tokenfleet.bench.figures import Slo
from tokenfleet.bench.record import Run

Verdict = Literal["better", "worse", "no difference", "unclear"]
"""Of the second side. unclear: there is too little to say."""

DRAWS: Final = 1000
FEW_REQUESTS: Final = 30
"""With fewer on one side nothing is said: an interval of so few is narrower than it should be."""
FEW_RUNS: Final = 3
LATENCIES: Final = ("ttft", "itl", "tpot", "e2e")
RATES: Final = ("requests_per_second", "output_tokens_per_second", "goodput")
METRICS: Final = (
    *(f"{name}.{figure}" for name in LATENCIES for figure in ("mean", "p50", "p90", "p95", "p99")),
    *RATES,
    "error_share",
)
"""All that is compared, by name."""
GATED: Final = (*(f"{name}.{figure}" for name in LATENCIES for figure in ("p50", "p95")), *RATES, "error_share")
"""Those that a limit on what may get worse holds for where nobody says which: the others move for smaller reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of one figure."""

    metric: str
    first: float
    second: float
    change: float
    """(second - first) / first; of error_share second - first."""
    low: float | None
    """Of the interval of `change`; None: unclear."""
    high: float | None
    verdict: Verdict

    @property
    def worsening(self) -> float:
        """`change`, positive where it is for the worse."""
        return -self.change if self.metric in RATES else self.change

    def as_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "first": self.first,
            "second": self.second,
            "change": self.change,
            "interval": None if self.low is None else [self.low, self.high],
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    differences: tuple[Difference, ...]
    confidence: float
    runs: tuple[int, int]
    requests: tuple[int, int]
    notes: tuple[str, ...]
    """What to bear in mind, a sentence each."""

    def worse(self, beyond: float, metrics: Sequence[str] = GATED) -> list[Difference]:
        """Those that are shown to be worse, and by more than `beyond`."""
        return [
            each for each in self.differences if each.metric in metrics and each.verdict == "worse" and each.worsening > beyond
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "confidence": self.confidence,
            "runs": list(self.runs),
            "requests": list(self.requests),
            "differences": [each.as_json() for each in self.differences],
            "notes": list(self.notes),
        }


def compare(
    first: Sequence[Run], second: Sequence[Run], *, slo: Slo | None = None, confidence: float = 0.95, draws: int = DRAWS,
    seed: int = 0
) -> Comparison:  # fmt: skip
    """Each side has at least one run."""
    sides = [
        [redraw(run, slo=slo, times=draws, seed=seed + 1000 * side + number) for number, run in enumerate(runs)]
        for side, runs in enumerate((first, second))
    ]
    requests = [sum(one.summary.requests for one in side) for side in sides]
    clear = min(requests) >= FEW_REQUESTS
    metrics = [name for name in METRICS if all(name in one.plain for side in sides for one in side)]
    differences = tuple(_difference(name, sides, confidence=confidence, seed=seed, clear=clear) for name in metrics)
    return Comparison(
        differences=differences,
        confidence=confidence,
        runs=(len(first), len(second)),
        requests=(requests[0], requests[1]),
        notes=tuple(_notes(first, second, requests)),
    )


def _difference(metric: str, sides: Sequence[Sequence[Drawn]], *, confidence: float, seed: int, clear: bool) -> Difference:
    import numpy

    plain = [sum(one.plain[metric] for one in side) / len(side) for side in sides]
    shown = [sum(_told(one, metric) for one in side) / len(side) for side in sides]
    chance = numpy.random.default_rng(seed)
    freedom = sum(map(len, sides)) - len(sides)
    drawn = [_side(metric, side, chance, widening=_widening(confidence, freedom)) for side in sides]
    low = high = None
    if clear and (metric == "error_share" or min(plain) > 0):
        # A figure below zero is the work of widening, and would turn the sign of a ratio.
        changes = _change(metric, *(numpy.maximum(each, 0.05 * value) for each, value in zip(drawn, plain, strict=True)))
        tail = (1 - confidence) / 2
        low, high = (float(each) for each in numpy.quantile(changes, (tail, 1 - tail)))
    change = float(_change(metric, shown[0], shown[1])) if shown[0] or metric == "error_share" else 0.0
    return Difference(
        metric=metric, first=shown[0], second=shown[1], change=change, low=low, high=high, verdict=_verdict(metric, low, high)
    )  # fmt: skip


def _side(metric: str, side: Sequence[Drawn], chance: Any, *, widening: float) -> Any:
    """The figure of one side, of every draw: the mean of its runs, where they are several of runs drawn again.

    To draw R runs of R gives a variance that is too small by (R-1)/R, which is made good.
    """
    import numpy

    plain = numpy.array([one.plain[metric] for one in side])
    within = numpy.stack([one.draws[metric] - one.plain[metric] for one in side])
    runs, draws = within.shape
    if runs == 1:
        return plain[0] + within[0]
    chosen = chance.integers(runs, size=(draws, runs))
    between = (plain[chosen].mean(axis=1) - plain.mean()) * sqrt(runs / (runs - 1)) * widening
    return plain.mean() + between + within[chosen, numpy.arange(draws)[:, None]].mean(axis=1)


def _widening(confidence: float, freedom: int) -> float:
    """By how much Student's t is wider than the normal distribution: how few runs hide how much they differ.

    M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    if freedom < 1:
        return 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(1 + sum(term / freedom ** (power + 1) for power, term in enumerate(terms)) / z)


def _change(metric: str, first: Any, second: Any) -> Any:
    return second - first if metric == "error_share" else second / first - 1


def _verdict(metric: str, low: float | None, high: float | None) -> Verdict:
    if low is None or high is None:
        return "unclear"
    if low <= 0 <= high:
        return "no difference"
    return "better" if (low > 0) == (metric in RATES) else "worse"


def _told(one: Drawn, metric: str) -> float:
    """As the summary of the run has it, so that both commands tell the same."""
    name, _, figure = metric.partition(".")
    if metric == "error_share":
        return one.plain[metric]
    found = getattr(one.summary, name)
    return float(getattr(found, figure) if figure else found)


_SAME: Final = ("model", "endpoint", "load", "prompts", "ignoreEos")


def _notes(first: Sequence[Run], second: Sequence[Run], requests: Sequence[int]) -> list[str]:
    notes = []
    told = [[dict(_facts(run.meta)) for run in side] for side in (first, second)]
    for name in dict.fromkeys(name for side in told for facts in side for name in facts):
        one, other = (" or ".join(sorted({facts.get(name, "nothing") for facts in side})) for side in told)
        if one != other:
            notes.append(f"They were not asked the same: {name} is {one} against {other}.")
    if min(requests) < FEW_REQUESTS:
        notes.append(f"{min(requests)} requests are too few to say anything: at least {FEW_REQUESTS} on each side.")
    if min(len(first), len(second)) < FEW_RUNS:
        notes.append(
            f"With fewer than {FEW_RUNS} runs on each side it is not known how much a figure changes from one run to the next: "
            "give several of each, taken in turns."
        )
    if any(run.meta.get("ending", "complete") != "complete" for run in (*first, *second)):
        notes.append("Not every run was complete: what is missing may be what was slow.")
    return notes


def _facts(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _SAME:
        value = meta.get(name)
        if isinstance(value, Mapping):
            yield from ((f"{name}.{part}", str(each)) for part, each in value.items())
        elif value is not None:
            yield name, str(value)
