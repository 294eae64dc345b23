"""A progress, shown to whoever looks: a table that renews itself on a terminal, and a line for each change elsewhere."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tokenfleet.cli import options
from tokenfleet.cli.cluster.deployments import Deployments, open_deployments
from tokenfleet.cli.errors import Unreachable
from tokenfleet.cli.rollouts.progress import Progress

_LOOK_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the commands take from outside."""

    open_deployments: Callable[..., Deployments] = open_deployments
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def tools_of(context: typer.Context) -> Tools:
    return context.obj if isinstance(context.obj, Tools) else Tools()


def looks(look: Callable[[], Progress], tools: Tools, *, over: Callable[[Progress], bool]) -> Iterator[Progress]:
    """A look each second, until one is the last. A cluster that does not answer for a while is waited for."""
    answered = tools.now()
    while True:
        try:
            progress = look()
        except Unreachable:
            if (tools.now() - answered).total_seconds() > _PATIENCE_SECONDS:
                raise
        else:
            answered = tools.now()
            yield progress
            if over(progress):
                return
        tools.sleep(_LOOK_SECONDS)


def show(progresses: Iterator[Progress], tools: Tools, *, as_json: bool = False) -> Progress:
    """All of them, as they come; returns the last one."""
    console = Console(width=None if Console().is_terminal else options.WIDE, highlight=False)
    began = tools.now()
    if as_json or not console.is_terminal:
        return _show_lines(progresses, tools, began, as_json=as_json)
    with Live(console=console, auto_refresh=False) as live:
        for progress in progresses:
            live.update(_panel(progress, _elapsed(progress, began, tools.now())), refresh=True)
    return progress


def show_once(progress: Progress, tools: Tools, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(progress.as_json(tools.now())))
        return
    console = Console(width=None if Console().is_terminal else options.WIDE, highlight=False)
    elapsed = _elapsed(progress, progress.began, tools.now()) if progress.began is not None else ""
    console.print(_panel(progress, elapsed))


def _show_lines(progresses: Iterator[Progress], tools: Tools, began: datetime, *, as_json: bool) -> Progress:
    told = None
    for progress in progresses:
        if progress != told:
            line = json.dumps(progress.as_json(tools.now())) if as_json else _line(progress, began, tools.now())
            typer.echo(line)
            told = progress
    return progress


def _line(progress: Progress, began: datetime, now: datetime) -> str:
    pods = ", ".join(f"{one.deployment} {one.new} new {one.old} old {one.ready} ready" for one in progress.pods)
    place = f" step {progress.step}/{len(progress.weights)} {progress.weight} %" if progress.step is not None else ""
    return f"{_elapsed(progress, began, now):>6}  {progress.phase}{place}: {pods or 'no pods'}. {progress.message}"


def _panel(progress: Progress, elapsed: str) -> Group:
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(progress, elapsed):
        facts.add_row(f"{name}:", value)
    table = Table("PODS OF", "WANTED", "NEW", "OLD", "READY", box=None, pad_edge=False)
    for one in progress.pods:
        table.add_row(one.deployment, *map(str, (one.wanted, one.new, one.old, one.ready)))
    return Group(facts, "", table) if progress.pods else Group(facts)


def _facts(progress: Progress, elapsed: str) -> Iterator[tuple[str, str]]:
    yield "LLMDeployment", f"{progress.namespace}/{progress.name}"
    yield "Phase", progress.phase
    if progress.revision is not None:
        yield "Revision", progress.revision
    if progress.step is not None:
        steps = ", ".join(f"{weight} %" for weight in progress.weights)
        yield "Step", f"{progress.step} of {len(progress.weights)} ({steps}); its share now: {progress.weight} %"
    if progress.requests is not None:
        rate = f" ({progress.error_rate:.1%})" if progress.error_rate is not None else ""
        yield "Requests", f"{progress.requests}, of which {progress.failed or 0} failed{rate}"
    if progress.ttft_milliseconds is not None:
        yield "First token", f"{progress.ttft_milliseconds} ms at the 95th percentile"
    if progress.draining:
        yield "Draining", f"{progress.draining} pods"
    if elapsed:
        yield "Elapsed", elapsed
    yield "Message", progress.message


def _elapsed(progress: Progress, began: datetime | None, now: datetime) -> str:
    start = progress.began or began or now
    seconds = max(0, round((now - start).total_seconds()))
    return f"{seconds // 60}m{seconds % 60:02}s" if seconds >= 60 else f"{seconds}s"
