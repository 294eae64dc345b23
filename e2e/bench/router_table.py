"""How the benchmark of routers tells its result to a person: one table, what was wanted and reached, and what to know of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from e2e.bench.router_figures import Figure, Results, Verdict
from e2e.bench.router_peers import OURS

BUSY: Final = 0.05
"""From this share of the router's core on that others took, the figures are told to be worse than they are."""
NARROWEST: Final = 120
"""Columns, where the output is no terminal."""
_MARKS: Final = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("·", "dim")}


def show(
    results: Mapping[str, Results],
    targets: Sequence[Verdict],
    *,
    conditions: Mapping[str, Any],
    left_out: Mapping[str, str],
    console: Console | None = None,
) -> None:
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST)
    console.print(_figures(results))
    console.print(_targets(targets))
    for line in remarks(results, conditions=conditions, left_out=left_out):
        console.print(Text(line), soft_wrap=True)


def _figures(results: Mapping[str, Results]) -> Table:
    table = Table(title="One core each; medians, and the range of all rounds below", title_justify="left")
    for title in (
        "router",
        "CPU µs/request",
        "CPU µs/SSE chunk",
        "requests/s",
        "added p50 ms",
        "added p99 ms",
        "MB, open streams",
        "errors",
    ):
        table.add_column(title, justify="left" if title == "router" else "right")
    for name, each in results.items():
        table.add_row(
            f"{name}\n[dim]{each.version}[/]",
            cell(each.unary_us, "{:.1f}".format),
            cell(each.chunk_us, "{:.1f}".format),
            cell(each.rps, "{:,.0f}".format, prefix="" if each.saturated else "≥ "),
            cell(each.added_p50_ms, "{:.2f}".format),
            cell(each.added_p99_ms, "{:.2f}".format),
            "-" if each.rss_mb is None else f"{each.rss_mb:.0f}\n[dim]{each.rss_streams:,}[/]",
            f"[red]{each.errors}[/]" if each.errors else "0",
            style="bold" if name == OURS else "",
        )
    return table


def cell(figure: Figure, text: Callable[[float], str], *, prefix: str = "") -> str:
    if figure.median is None or figure.spread is None:
        return "-"
    low, high = figure.spread
    return f"{prefix}{text(figure.median)}\n[dim]{text(low)}–{text(high)}[/]"


def _targets(targets: Sequence[Verdict]) -> Table:
    table = Table("", "target", "wanted", "reached", box=None)
    for one in targets:
        table.add_row(_MARKS[one.ok], one.what, one.wanted, one.reached)
    return table


def remarks(results: Mapping[str, Results], *, conditions: Mapping[str, Any], left_out: Mapping[str, str]) -> list[str]:
    """What a reader has to know to read the table rightly."""
    lines = [f"{name} is left out: {why}" for name, why in left_out.items()]
    for name, each in results.items():
        lines += [f"{name}: {note}" for note in each.notes]
        if each.first_error:
            lines.append(f"{name}: the first error: {each.first_error}")
    if any(not each.saturated for each in results.values()):
        lines.append("≥: the router's core was not full (its clients' was, or others had it), so the router could do more.")
    if conditions["foreign_share_of_router_core"] >= BUSY:
        share = conditions["foreign_share_of_router_core"]
        lines.append(f"Others took {share:.0%} of the router's core: all figures are worse than on a quiet machine.")
    if not conditions["own_network"]:
        lines.append("Without root the host's network was used: its firewall's rules are part of every router's cost.")
    return lines
