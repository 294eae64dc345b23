"""`tokenfleet status`: the fleet as a table, or one LLMDeployment as a page; once, or for as long as somebody looks."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from tokenfleet.cli import options
from tokenfleet.cli.cluster.connection import connect
from tokenfleet.cli.cluster.deployments import Json
from tokenfleet.cli.cluster.watching import View
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.options import Place
from tokenfleet.cli.status import drawing
from tokenfleet.cli.status.rows import Row, row_of
from tokenfleet.cli.status.sources import ClusterSource, Source
from tokenfleet.cli.status.words import span

_LOOK_SECONDS = 5.0
"""Between two looks at a page's pods and routers, which are not watched."""


def _open(place: Place) -> Source:
    return ClusterSource(connect(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the command takes from outside."""

    open_source: Callable[[Place], Source] = _open
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic


@options.in_cluster
def status(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Of one LLMDeployment; all where left out.", show_default=False, autocompletion=options.names),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until interrupted.")] = False,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Show the fleet at a glance, or one LLMDeployment with all that is known of it.

    tokenfleet status -A --watch

    tokenfleet status llama -n chat
    """
    if name is not None and everywhere:
        raise Unusable("--all-namespaces is for the whole fleet: leave it out, or the name.")
    tools = context.obj if isinstance(context.obj, Tools) else Tools()
    source = tools.open_source(place)
    screen = _Screen(source, tools, name, everywhere=everywhere)
    if not watch:
        screen.once(as_json=as_json)
        return
    try:
        asyncio.run(screen.follow(as_json=as_json))
    except KeyboardInterrupt:
        return


class _Screen:
    """What is shown, of one or of all."""

    def __init__(self, source: Source, tools: Tools, name: str | None, *, everywhere: bool) -> None:
        self._source, self._tools, self._name, self._everywhere = source, tools, name, everywhere
        self._began = tools.clock()
        self._page: tuple[float, Any] | None = None

    def once(self, *, as_json: bool) -> None:
        now = self._tools.now()
        if self._name is not None:
            seen = self._source.page(self._name)
            typer.echo(json.dumps(seen.as_json())) if as_json else drawing.show(drawing.page(seen, now))
            return
        rows = [row_of(body) for body in self._source.fleet(everywhere=self._everywhere)]
        if as_json:
            typer.echo(json.dumps([row.as_json() for row in rows]))
        elif rows:
            drawing.show(drawing.fleet(rows, now, namespaces=self._everywhere, width=drawing.console().width))
        else:
            typer.echo(self._nothing(), err=True)

    async def follow(self, *, as_json: bool) -> None:
        """Renew it whenever something changes; on a terminal in place, elsewhere a line for each change."""
        if self._name is not None:
            await asyncio.to_thread(self._source.page, self._name)  # tells of a name that is not there
        console = drawing.console()
        if as_json or not console.is_terminal:
            await self._lines(as_json=as_json)
            return
        with Live(console=console, auto_refresh=False, screen=False) as live:
            latest: View | None = None
            async for view in _paced(self._source.watch(self._name, everywhere=self._everywhere)):
                latest = view or latest
                if latest is not None:
                    live.update(await self._picture(latest, console.width), refresh=True)

    async def _lines(self, *, as_json: bool) -> None:
        told: dict[str, Row] = {}
        away = ""
        async for view in self._source.watch(self._name, everywhere=self._everywhere):
            if view.away and view.away != away:
                typer.echo(view.away, err=True)
            away = view.away
            rows = {f"{row.namespace}/{row.name}": row for row in map(row_of, view.objects)}
            for name, row in rows.items():
                if told.get(name) != row:
                    typer.echo(json.dumps(row.as_json()) if as_json else f"{self._elapsed():>5}  {_line(row)}")
            for name in told.keys() - rows.keys():
                typer.echo(json.dumps({"name": name, "deleted": True}) if as_json else f"{self._elapsed():>5}  {name} is gone.")
            told = rows

    async def _picture(self, view: View, width: int) -> RenderableType:
        rows = [row_of(body) for body in view.objects]
        head = f"{drawing.totals(rows)}. Watching for {self._elapsed()}; Ctrl-C ends it."
        lines: list[RenderableType] = [view.away] if view.away else []
        if not rows:
            return Group(*lines, self._nothing())
        if self._name is None:
            table = drawing.fleet(rows, self._tools.now(), namespaces=self._everywhere, width=width)
            return Group(table, "", *lines, head)
        return Group(await self._detail(view.objects[0]), "", *lines, head)

    async def _detail(self, owner: Json) -> RenderableType:
        clock = self._tools.clock()
        if self._page is None or clock - self._page[0] >= _LOOK_SECONDS:
            try:
                self._page = (clock, await asyncio.to_thread(self._source.page, self._name or ""))
            except CliError:
                if self._page is None:
                    raise
        seen = self._page[1]
        return drawing.page(type(seen)(owner=owner, replicas=seen.replicas), self._tools.now())

    def _nothing(self) -> str:
        where = "" if self._everywhere else f" in the namespace {self._source.namespace}"
        step = "apply one" if self._everywhere else "apply one, or look into all namespaces with -A"
        return f"There is no LLMDeployment{where}: {step}."

    def _elapsed(self) -> str:
        return span(self._tools.clock() - self._began)


async def _paced(views: Any) -> Any:
    """Each view as it comes, and None after each second without one, so that ages go on."""
    pending: asyncio.Task[View] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(views))
            done, _ = await asyncio.wait({pending}, timeout=1.0)
            if not done:
                yield None
                continue
            view, pending = pending.result(), None
            yield view
    except StopAsyncIteration:
        return
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await views.aclose()


def _line(row: Row) -> str:
    replicas = f"{row.ready_replicas}/{row.replicas}" if row.replicas is not None else "-"
    load = f"{row.in_flight or 0} in flight, {row.queue_depth or 0} waiting"
    return f"{row.namespace}/{row.name}  {replicas} ready, {load}, {row.reason}: {row.message}"
