"""A replay as a picture: the load above, the replicas below. matplotlib is imported only when one is asked for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.planning.scaling.replay import Replay

_FORMATS: Final = (".png", ".svg", ".pdf")
_LOAD, _WAITING, _WANTED, _THERE, _INK, _GRID = "#2a78d6", "#e34948", "#1baf7a", "#c9c7c0", "#52514e", "#e1e0d9"
_SILENT = "#f3e9d8"
_CALENDAR: Final = 1e8
"""Times from here on are moments, and smaller ones seconds of an experiment."""


def check_plot(path: Path) -> None:
    """Before any work is done: raises Unusable where the picture could not be written."""
    if path.suffix.lower() not in _FORMATS:
        raise Unusable(f"--plot {path}: the name must end with {', '.join(_FORMATS)}, which says what is drawn.")
    if not path.parent.is_dir():
        raise Unusable(f"--plot {path}: there is no folder {path.parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Unusable("--plot needs matplotlib: pip install 'tokenfleet[cli]'.") from None


def draw(result: Replay, path: Path, *, title: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    load, replicas = figure.subplots(2, 1, sharex=True)
    times = [_place(point.time, result) for point in result.points] + [_place(result.ended, result)]
    _draw_load(load, times, result)
    _draw_replicas(replicas, times, result)
    for axes in (load, replicas):
        _shade_silence(axes, times, result)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GRID)
        axes.tick_params(colors=_INK, labelsize=9)
        axes.grid(axis="y", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=_INK, ncols=3)
    if _is_moment(result):
        locator = AutoDateLocator()
        replicas.xaxis.set_major_locator(locator)
        replicas.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        replicas.set_xlabel("UTC", color=_INK)
    else:
        replicas.set_xlabel("minutes", color=_INK)
    load.set_title(title, loc="left", color="#0b0b0b", fontsize=12)
    try:
        figure.savefig(path)
    except OSError as error:
        raise CliError(f"The plot could not be written: {error}.") from error


def _shade_silence(axes: Any, times: list[Any], result: Replay) -> None:
    """Where nothing was known."""
    label = "not known"
    for begin, end, point in zip(times, times[1:], result.points, strict=False):
        if point.signal is None:
            axes.axvspan(begin, end, color=_SILENT, linewidth=0, label=label)
            label = "_"


def _draw_load(axes: Any, times: list[Any], result: Replay) -> None:
    nan = float("nan")
    running = [point.signal.in_flight if point.signal else nan for point in result.points]
    waiting = [point.signal.waiting if point.signal else nan for point in result.points]
    axes.step(times, [*running, running[-1]], where="post", color=_LOAD, linewidth=1.4, label="in flight")
    axes.step(times, [*waiting, waiting[-1]], where="post", color=_WAITING, linewidth=1.4, label="waiting")
    axes.set_ylabel("requests", color=_INK)


def _draw_replicas(axes: Any, times: list[Any], result: Replay) -> None:
    there = [point.signal.ready if point.signal else 0 for point in result.points]
    wanted = [point.wanted for point in result.points]
    axes.fill_between(times, [*there, there[-1]], step="post", color=_THERE, linewidth=0, label="served, as recorded")
    axes.step(times, [*wanted, wanted[-1]], where="post", color=_WANTED, linewidth=2, label="wanted by the policy")
    axes.set_ylabel("replicas", color=_INK)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, max(*wanted, *there, 1) * 1.25)


def _is_moment(result: Replay) -> bool:
    return result.began >= _CALENDAR


def _place(time: float, result: Replay) -> Any:
    return datetime.fromtimestamp(time, UTC) if _is_moment(result) else (time - result.began) / 60
