"""A run as plots: one function for each, all in one style. matplotlib is imported when something is drawn, and stays in here.

Each plot is written as PNG, for a document, and as SVG, for a page: there its text is paths, its width the page's to say, and
its colours are CSS variables, so that it follows a light or a dark page."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenfleet.bench.figures import Slo, Summary, e2e, gaps, percentile, tpot, ttft
from tokenfleet.bench.record import Exchange, Run

BLUE, RED, GREEN, VIOLET = "#2a78d6", "#e34948", "#1baf7a", "#8a63c9"
INK, GRID, SHADE = "#52514e", "#e1e0d9", "#f3e9d8"
VARIABLES: Final = {
    BLUE: "--blue", RED: "--red", GREEN: "--green", VIOLET: "--violet", INK: "--ink", GRID: "--grid", SHADE: "--shade",
}  # fmt: skip
"""What stands in an SVG for each colour."""
_POINTS: Final = 1500
_SLICES: Final = 60
_AT_ONCE: Final = 1e-4
"""Seconds: tokens that are less apart came in one read. On a logarithmic axis they stand here."""
_STYLE: Final = {
    "svg.fonttype": "path", "svg.hashsalt": "tokenfleet", "font.size": 9.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "axes.edgecolor": GRID, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "axes.titlecolor": INK, "legend.frameon": False, "lines.linewidth": 1.6, "axes.axisbelow": True,
    "legend.labelcolor": INK,
}  # fmt: skip


class NoPlots(Exception):
    """matplotlib is not installed."""


def draw(run: Run, summary: Summary, *, slo: Slo | None = None, folder: Path | None = None) -> dict[str, str]:
    """SVG by name of each plot that has data; with a folder also NAME.png there. Raises NoPlots, and OSError."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPlots("matplotlib is not installed: pip install 'tokenfleet[cli]'") from None
    drawn: dict[str, str] = {}
    with matplotlib.rc_context(_STYLE):
        for name, paint in PLOTS.items():
            figure = Figure(figsize=(10.5, 3.6), layout="constrained")
            if paint(figure, run, summary, slo or Slo()):
                drawn[name] = _svg(figure)
                if folder is not None:
                    figure.savefig(folder / f"{name}.png", dpi=130)
    return drawn


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _whole(run: Run) -> list[Exchange]:
    return [each for each in run.exchanges if each.outcome == "ok" and each.first is not None]


def _first_tokens(figure: Any, run: Run, summary: Summary, slo: Slo) -> bool:
    whole = sorted(_whole(run), key=lambda each: each.intended)
    failed = [each.intended for each in run.exchanges if each.outcome in ("error", "cut")]
    if not whole:
        return False
    axes = figure.subplots()
    shown = whole[:: max(1, len(whole) // _POINTS)]
    axes.plot([each.intended for each in shown], [ttft(each) for each in shown], "o", color=BLUE, markersize=2.2, alpha=0.45)
    middles, halves, tails = _over_time([(each.intended, ttft(each)) for each in whole], run.seconds)
    axes.plot(middles, halves, color=GREEN, label="median")
    axes.plot(middles, tails, color=VIOLET, label="95th percentile")
    if failed:
        axes.plot(failed, [0.0] * len(failed), "|", color=RED, markersize=11, label="failed", clip_on=False)
    _limit(axes, slo.ttft, "y")
    _shade_uncounted(axes, run, summary)
    _dress(axes, title="Time to first token", x="seconds since the run began", y="seconds")
    return True


def _distributions(figure: Any, run: Run, summary: Summary, slo: Slo) -> bool:
    counted = [each for each in _whole(run) if summary.begins <= each.intended <= summary.ends]
    if not counted:
        return False
    panels = figure.subplots(1, 2, sharey=True)
    values = (
        {"to first token": list(map(ttft, counted)), "end to end": list(map(e2e, counted))},
        {
            "per output token": [value for each in counted if (value := tpot(each)) is not None],
            "between tokens": [gap for each in counted for gap in gaps(each)],
        },
    )
    for axes, kinds, title in zip(panels, values, ("Whole requests", "Tokens"), strict=True):
        for (label, each), colour in zip(kinds.items(), (BLUE, GREEN), strict=True):
            if ordered := sorted(each):
                shares = [place / 400 for place in range(401)]
                places = [max(percentile(ordered, 100 * share), _AT_ONCE) for share in shares]
                axes.plot(places, shares, color=colour, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.axhline(0.95, color=INK, linewidth=0.8, linestyle=":")
        _dress(axes, title=f"{title}: share that took at most", x="seconds", y="", bottom=None, legend="lower right")
        axes.set_ylim(0, 1.01)
    return True


def _throughput(figure: Any, run: Run, summary: Summary, slo: Slo) -> bool:
    if not run.exchanges or run.seconds <= 0:
        return False
    panels = figure.subplots(1, 2)
    width = run.seconds / _SLICES
    tokens, under_way = [0.0] * _SLICES, [0.0] * _SLICES
    for each in run.exchanges:
        for time in each.times:
            tokens[_slice(time, width)] += each.output_tokens / len(each.times) / width
        for place in range(_slice(each.sent, width), _slice(each.ended, width) + 1):
            inside = min(each.ended, (place + 1) * width) - max(each.sent, place * width)
            under_way[place] += max(0.0, inside) / width
    edges = [place * width for place in range(_SLICES + 1)]
    panels[0].stairs(tokens, edges, color=BLUE, linewidth=1.6)
    panels[1].stairs(under_way, edges, color=GREEN, linewidth=1.6)
    for axes, title, label in zip(panels, ("Output", "Under way"), ("tokens per second", "requests"), strict=True):
        _shade_uncounted(axes, run, summary)
        _dress(axes, title=title, x="seconds since the run began", y=label)
    return True


def _between_tokens(figure: Any, run: Run, summary: Summary, slo: Slo) -> bool:
    counted = sorted(
        gap for each in _whole(run) if summary.begins <= each.intended <= summary.ends for gap in gaps(each)
    )  # fmt: skip
    if not counted or summary.itl is None:
        return False
    axes = figure.subplots()
    low, high = max(counted[0], _AT_ONCE), max(counted[-1], 2 * _AT_ONCE)
    edges = [low * (high / low) ** (place / 80) for place in range(81)]
    axes.hist([max(value, low) for value in counted], bins=edges, color=BLUE, alpha=0.75)
    for value, name, colour in ((summary.itl.p50, "median", GREEN), (summary.itl.p95, "95th percentile", VIOLET)):
        axes.axvline(value, color=colour, label=f"{name}: {1000 * value:.3g} ms")
    _limit(axes, slo.itl, "x")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    _dress(axes, title="Time between tokens", x="seconds; what came at once stands at the left", y="gaps")
    return True


PLOTS: Final[Mapping[str, Callable[[Any, Run, Summary, Slo], bool]]] = {
    "ttft": _first_tokens,
    "throughput": _throughput,
    "latencies": _distributions,
    "itl": _between_tokens,
}


def _over_time(points: Sequence[tuple[float, float]], seconds: float) -> tuple[list[float], list[float], list[float]]:
    """(middles, medians, 95th percentiles) of equal slices that have enough of them."""
    width = max(seconds, 1e-9) / min(_SLICES, max(1, len(points) // 20))
    slices: dict[int, list[float]] = {}
    for time, value in points:
        slices.setdefault(int(time / width), []).append(value)
    kept = sorted((place, sorted(values)) for place, values in slices.items() if len(values) >= 5)
    middles = [(place + 0.5) * width for place, _ in kept]
    return middles, [percentile(values, 50) for _, values in kept], [percentile(values, 95) for _, values in kept]


def _slice(time: float, width: float) -> int:
    return max(0, min(int(time / width), _SLICES - 1))


def _limit(axes: Any, limit: float | None, way: str) -> None:
    if limit is not None:
        line = axes.axhline if way == "y" else axes.axvline
        line(limit, color=RED, linestyle="--", linewidth=1.2, label=f"promise: {limit:g} s")


def _shade_uncounted(axes: Any, run: Run, summary: Summary) -> None:
    """Warm-up and cool-down."""
    label = "not counted"
    for begins, ends in ((0.0, summary.begins), (summary.ends, run.seconds)):
        if ends - begins > 0.005 * run.seconds:
            axes.axvspan(begins, ends, color=SHADE, alpha=0.5, linewidth=0, label=label, zorder=0)
            label = "_"


def _dress(axes: Any, *, title: str, x: str, y: str, bottom: float | None = 0.0, legend: str = "upper right") -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    if bottom is not None:
        axes.set_ylim(bottom=bottom)
    if axes.get_legend_handles_labels()[0]:
        if legend.startswith("upper"):
            axes.set_ylim(top=1.16 * axes.get_ylim()[1])
        axes.legend(loc=legend, fontsize=8.5, ncols=4 if legend.startswith("upper") else 1)
