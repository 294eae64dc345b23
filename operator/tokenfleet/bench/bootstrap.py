"""How much the figures of a run could have been otherwise: by drawing its requests again, in blocks.

Requests that run at one time disturb each other, so they are drawn as blocks of neighbours and not one by one (H. R. Künsch,
Annals of Statistics 17, 1989; in a circle: D. N. Politis, J. P. Romano, 1992). A block is as long as requests are under way
together (and of time as two answers take, since a closed loop's come in waves), and at least the cube root of their number, the
order that gives the smallest error. That holds for a load that is the same all the time: of a run with a trend, the interval
says too little. numpy is imported when something is drawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from tokenfleet.bench.figures import Slo, Summary, e2e, gaps, tpot, ttft
from tokenfleet.bench.record import Exchange, Run
from tokenfleet.bench.started import summary_of

SLICES: Final = 60
"""Of a run's time, of which those are drawn again that rates are counted in."""
_FEWEST_BLOCKS: Final = 5

Figures = Mapping[str, Any]
"""By name: an array with the figure of every draw."""


@dataclass(slots=True)
class Values:
    """Of one quantity: sorted, each with the request that it belongs to."""

    values: Any
    owners: Any

    def figures(self, weights: Any) -> Iterator[tuple[str, float]]:
        """weights: how often each request was drawn."""
        drawn = weights[self.owners]
        reached = drawn.cumsum()
        if not len(reached) or not reached[-1]:
            return
        yield "mean", float(drawn @ self.values / reached[-1])
        for percent in PERCENTILES:
            place = reached.searchsorted(percent / 100 * reached[-1])
            yield f"p{percent}", float(self.values[min(place, len(self.values) - 1)])


PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(slots=True)
class Drawn:
    """A run, its figures, and what they came to whenever its requests were drawn again."""

    summary: Summary
    plain: dict[str, float]
    """By the same arithmetic as the draws."""
    draws: dict[str, Any] = field(default_factory=dict)


def redraw(run: Run, *, slo: Slo | None, times: int, seed: int) -> Drawn:
    """`times` times. Names are such as ttft.p95 and output_tokens_per_second."""
    import numpy

    chance = numpy.random.default_rng(seed)
    summary = summary_of(run, slo=slo)
    counted = sorted(
        (each for each in run.exchanges if summary.begins <= each.intended <= summary.ends), key=lambda each: each.intended
    )
    columns = _columns(counted)
    failed = numpy.array([each.outcome in ("error", "cut") for each in counted], dtype=float)
    slices = _slices(run, summary, slo)
    plain = _latencies(columns, failed, numpy.ones(len(counted))) | _rates(slices, numpy.ones(SLICES))
    drawn: dict[str, list[float]] = {name: [] for name in plain}
    requests = _blocks(len(counted), max(summary.concurrency, len(counted) ** (1 / 3)), chance)
    turns = 2 * summary.e2e.mean / summary.seconds * SLICES if summary.e2e is not None and summary.seconds else 0.0
    moments = _blocks(SLICES, max(turns, SLICES ** (1 / 3)), chance)
    for _ in range(times if counted else 0):
        figures = _latencies(columns, failed, requests()) | _rates(slices, moments())
        for name in drawn:
            drawn[name].append(figures.get(name, plain[name]))
    return Drawn(summary, plain, {name: numpy.array(each) for name, each in drawn.items()})


def _blocks(count: int, length: float, chance: Any) -> Callable[[], Any]:
    """How often each of `count` was drawn; anew with each call."""
    import numpy

    size = max(1, min(ceil(length), count // _FEWEST_BLOCKS))
    steps = numpy.arange(size)

    def draw() -> Any:
        starts = chance.integers(count, size=ceil(count / size))
        places = (starts[:, None] + steps).ravel()[:count] % count
        return numpy.bincount(places, minlength=count)

    return draw


def _columns(counted: Sequence[Exchange]) -> dict[str, Values]:
    import numpy

    whole = [(place, each) for place, each in enumerate(counted) if each.outcome == "ok" and each.first is not None]
    pairs: dict[str, list[tuple[float, int]]] = {
        "ttft": [(ttft(each), place) for place, each in whole],
        "itl": [(gap, place) for place, each in whole for gap in gaps(each)],
        "tpot": [(value, place) for place, each in whole if (value := tpot(each)) is not None],
        "e2e": [(e2e(each), place) for place, each in whole],
    }
    columns = {}
    for name, each in pairs.items():
        values, owners = numpy.array([value for value, _ in each]), numpy.array([place for _, place in each], dtype=int)
        order = values.argsort()
        columns[name] = Values(values[order], owners[order])
    return columns


def _latencies(columns: Mapping[str, Values], failed: Any, weights: Any) -> dict[str, float]:
    figures = {
        f"{name}.{figure}": value for name, column in columns.items() for figure, value in column.figures(weights)
    }  # fmt: skip
    total = weights.sum()
    return figures | {"error_share": float(failed @ weights / total) if total else 0.0}


def _slices(run: Run, summary: Summary, slo: Slo | None) -> dict[str, Any]:
    """What came to an end in each of the equal slices of the window, as rates."""
    import numpy

    width = summary.seconds / SLICES or 1.0
    counts = {"requests_per_second": numpy.zeros(SLICES), "output_tokens_per_second": numpy.zeros(SLICES)}
    if slo:
        counts["goodput"] = numpy.zeros(SLICES)

    def add(name: str, time: float, amount: float) -> None:
        if summary.begins <= time <= summary.ends:
            counts[name][min(int((time - summary.begins) / width), SLICES - 1)] += amount / width

    for each in run.exchanges:
        if each.outcome != "ok" or each.first is None:
            continue
        add("requests_per_second", each.ended, 1)
        if slo and slo.met(each):
            add("goodput", each.ended, 1)
        for time in each.times:
            add("output_tokens_per_second", time, each.output_tokens / len(each.times))
    return counts


def _rates(slices: Mapping[str, Any], weights: Any) -> dict[str, float]:
    return {name: float(counts @ weights / weights.sum()) for name, counts in slices.items()}
