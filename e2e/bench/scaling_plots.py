"""One picture for each load: what waited, and how many replicas served, under each rule side by side."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from e2e.bench.scaling_patterns import MEAN_TOKENS, Pattern
from tokenfleet.planning.scaling.simulation import Engine, Outcome

_WAITING, _SERVING, _NEEDED, _INK, _MUTED, _GRID = "#e34948", "#86b6ef", "#0b0b0b", "#0b0b0b", "#52514e", "#e1e0d9"
_TITLES: Final[Mapping[str, str]] = {"tokenfleet": "Tokenfleet", "hpa": "HPA", "keda": "KEDA"}


def draw(pattern: Pattern, outcomes: Mapping[str, Outcome], folder: Path, *, suffix: str = "") -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(outcomes), 5.6), dpi=110, layout="constrained")
    panels = figure.subplots(2, len(outcomes), sharex=True, sharey="row")
    need = _needed(pattern)
    for column, (rule, outcome) in enumerate(outcomes.items()):
        waiting, replicas = panels[0][column], panels[1][column]
        times = [moment.at / 60 for moment in outcome.moments]
        waiting.fill_between(times, [moment.waiting for moment in outcome.moments], color=_WAITING, linewidth=0)
        serving = [moment.serving for moment in outcome.moments]
        replicas.fill_between(times, serving, step="post", color=_SERVING, linewidth=0, label="serving")
        replicas.plot(
            times, [need(moment.at) for moment in outcome.moments], color=_NEEDED, linewidth=1, label="needed at least"
        )
        figures = f"{outcome.attainment:.2%} in time, {outcome.replica_hours:.2f} replica-hours"
        waiting.set_title(f"{_TITLES.get(rule, rule)}: {figures}", loc="left", fontsize=11, color=_INK)
        replicas.set_xlabel("minutes", color=_MUTED)
    panels[0][0].set_ylabel("requests waiting", color=_MUTED)
    panels[1][0].set_ylabel("replicas", color=_MUTED)
    panels[1][0].legend(loc="upper left", frameon=False, fontsize=9, labelcolor=_MUTED, ncols=2)
    top = max(moment.serving for outcome in outcomes.values() for moment in outcome.moments)
    panels[1][0].set_ylim(0, top * 1.2)
    for axes in panels.flat:
        _quiet(axes)
    figure.suptitle(f"{pattern.title[:1].upper()}{pattern.title[1:]}", x=0.01, ha="left", fontsize=13, color=_INK)
    path = folder / f"scaling-{pattern.name}{suffix}.png"
    figure.savefig(path)
    return path


def _quiet(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_MUTED, labelsize=9)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def _needed(pattern: Pattern) -> Callable[[float], float]:
    """Replicas that the load would keep wholly busy."""
    engine = Engine()
    each = engine.places * engine.speed(engine.places) / MEAN_TOKENS
    return lambda at: pattern.rate(at) / each
