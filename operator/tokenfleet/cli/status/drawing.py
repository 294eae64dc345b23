"""The fleet and a page as tables: on a terminal as wide as it is, and elsewhere a row is a line."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenfleet.cli import options
from tokenfleet.cli.status.page import Page, facts
from tokenfleet.cli.status.rows import COLUMNS, Row, cells
from tokenfleet.cli.status.words import shown, since

_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_STATES = {"ready": "green", "starting": "yellow", "pending": "yellow", "draining": "yellow", "leaving": "yellow"}
_YIELDS = {"NAMESPACE": 12, "NAME": 16, "MODEL": 12, "ACCELERATOR": 12, "REASON": 18}
"""Columns that may be cut, and to how much."""
_GAP = 2
_SPARED = ("ACCELERATOR", "MODEL", "FITS", "AGE")
"""What a narrow terminal does without, in this order."""


def console() -> Console:
    return Console(width=None if Console().is_terminal else options.WIDE, highlight=False)


def show(picture: RenderableType) -> None:
    """Once. Elsewhere than on a terminal nothing stands behind a line's last word."""
    out = console()
    if out.is_terminal:
        out.print(picture)
        return
    with out.capture() as captured:
        out.print(picture)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def fleet(rows: Sequence[Row], now: datetime, *, namespaces: bool, width: int) -> Table:
    """width: where it is small, what one needs least is left out."""
    columns = [*(("NAMESPACE",) if namespaces else ()), *COLUMNS]
    lines = [[*((row.namespace,) if namespaces else ()), *cells(row, now)] for row in rows]
    widest = {column: max(len(column), *(len(line[n]) for line in lines)) for n, column in enumerate(columns)}
    widths = _fitting(widest, width)
    table = Table(box=None, pad_edge=False)
    for column, wide in widths.items():
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=wide)
    for row, line in zip(rows, lines, strict=True):
        values = dict(zip(columns, line, strict=True))
        style = {"REASON": _COLOURS.get(row.ready, "")}
        table.add_row(*(Text(values[column], style.get(column, "")) for column in widths))
    return table


def _fitting(widest: Mapping[str, int], width: int) -> dict[str, int]:
    """By column that is shown, its width."""
    widths = dict(widest)

    def excess(least: Mapping[str, int]) -> int:
        taken = sum(min(wide, least.get(column, wide)) + _GAP for column, wide in widths.items())
        return taken - _GAP - width

    for column in _SPARED:
        if excess(_YIELDS) > 0:
            widths.pop(column, None)
    while excess({}) > 0 and (can := [one for one in widths if widths[one] > _YIELDS.get(one, widths[one])]):
        widths[max(can, key=lambda one: widths[one])] -= 1
    return widths


def totals(rows: Sequence[Row]) -> str:
    """The fleet in a line."""
    ready = sum(row.ready == "True" for row in rows)
    waiting, running = sum(row.queue_depth or 0 for row in rows), sum(row.in_flight or 0 for row in rows)
    currencies = {row.currency for row in rows if row.hourly is not None}
    cost = ""
    if len(currencies) == 1:
        cost = f", {sum(float(row.hourly) for row in rows if row.hourly is not None):.2f} {currencies.pop()} an hour"
    return f"{ready} of {len(rows)} ready, {running} requests in flight, {waiting} waiting{cost}"


def page(seen: Page, now: datetime) -> Group:
    parts: list[RenderableType] = [_pairs(facts(seen, now)), ""]
    status = seen.owner.get("status") or {}
    if conditions := status.get("conditions"):
        table = _table("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
        for one in conditions:
            colour = _COLOURS.get(one["status"], "")
            since_then, words = since(one["lastTransitionTime"], now), Text(one["message"])
            table.add_row(one["type"], Text(one["status"], colour), one["reason"], since_then, words)
        parts += [table, ""]
    if seen.replicas:
        parts += [_pods(seen, now), ""]
    if history := (status.get("scaling") or {}).get("history"):
        table = _table("SCALED", "FROM", "TO", "REASON", "MESSAGE")
        for one in history:
            when = f"{since(one['time'], now)} ago"
            table.add_row(when, str(one["before"]), str(one["after"]), one["reason"], Text(one["message"]))
        parts += [table, ""]
    return Group(*parts[:-1])


def _pods(seen: Page, now: datetime) -> Table:
    drains = any(pod.deadline is not None for pod in seen.replicas)
    columns = ("POD", "ROLE", "NODE", "STATE", "IN FLIGHT", "RESTARTS", *(("DRAIN ENDS",) if drains else ()), "AGE")
    table = Table(box=None, pad_edge=False)
    for column in columns:
        gives_way = column in ("POD", "NODE")
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=8 if gives_way else max(len(column), 7))
    for pod in seen.replicas:
        ends = (f"in {_until(pod.deadline, now)}" if pod.deadline is not None else "-",) if drains else ()
        state = Text(pod.state, _STATES.get(pod.state, "red"))
        figures = (shown(pod.in_flight), str(pod.restarts), *ends, since(pod.created, now))
        table.add_row(pod.pod, pod.role, shown(pod.node), state, *figures)
    return table


def _pairs(pairs: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(f"{name}:", Text(value))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != "MESSAGE", overflow="fold")
    return table


def _until(deadline: str, now: datetime) -> str:
    return f"{max(0, round((datetime.fromisoformat(deadline) - now).total_seconds()))}s"
