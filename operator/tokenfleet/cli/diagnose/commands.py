"""`tokenfleet diagnose`: the chain as a tree, and in its last line the first cause with its fix."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import typer
from rich.table import Table
from rich.text import Text

from tokenfleet.cli import options
from tokenfleet.cli.cluster.connection import connect
from tokenfleet.cli.diagnose.chain import diagnose as judge
from tokenfleet.cli.diagnose.findings import Diagnosis, Finding, State
from tokenfleet.cli.diagnose.reading import take
from tokenfleet.cli.diagnose.snapshot import Snapshot
from tokenfleet.cli.options import Place
from tokenfleet.cli.status.drawing import console

_SIGNS: Final = {
    State.OK: ("✓", "green"),
    State.PROBLEM: ("✗", "red"),
    State.WAITING: ("…", "yellow"),
    State.UNKNOWN: ("?", "yellow"),
    State.NOTE: ("·", "yellow"),
}


def _take(place: Place, name: str) -> Snapshot:
    return take(connect(place), name, now=datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the command takes from outside."""

    take: Callable[[Place, str], Snapshot] = _take


@options.in_cluster
def diagnose(
    context: typer.Context,
    name: options.Name,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Say why an LLMDeployment is not ready, and what to do.

    tokenfleet diagnose llama -n chat

    Every link from the spec to a request is looked at: ✓ fine, ✗ a problem, … it takes time, ? you may not see it, \
· worth a look. The last line tells the first cause. The exit code is 1 where there is a problem, and else 0.
    """
    tools = context.obj if isinstance(context.obj, Tools) else Tools()
    found = judge(tools.take(place, name))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _show(found)
    if not found.healthy:
        raise typer.Exit(1)


def _show(found: Diagnosis) -> None:
    out = console()
    out.print(Text(f"{found.namespace}/{found.name}", style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    width = max(len(finding.link) for finding in found.findings) + 2
    for finding in found.findings:
        sign, colour = _SIGNS[finding.state]
        for margin, words in _rows(finding, f"{sign} {finding.link}"):
            style = colour if margin else ""
            if out.is_terminal:
                table.add_row(Text(margin, style=style), words)
            else:
                typer.echo(f"{margin:{width}}  {words}")
    if out.is_terminal:
        out.print(table)
    style = {State.PROBLEM: "bold red", State.WAITING: "bold yellow"}.get(
        found.cause.state if found.cause else State.OK, "bold"
    )
    out.print()
    out.print(Text(found.summary, style=style), soft_wrap=True)


def _rows(finding: Finding, margin: str) -> Iterator[tuple[str, Text]]:
    yield margin, Text(finding.message)
    yield from (("", Text(detail, style="dim")) for detail in finding.details)
    if finding.fix and finding.state is not State.OK and finding.fix not in finding.message:
        yield "", Text(f"→ {finding.fix}", style="bold")
