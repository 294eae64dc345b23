"""`tokenfleet logs`: what all pods of an LLMDeployment say, each line with the pod's name."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tokenfleet.cli import options
from tokenfleet.cli.cluster.connection import connect
from tokenfleet.cli.cluster.deployments import deployments_of
from tokenfleet.cli.errors import CliError, Unreachable, Unusable
from tokenfleet.cli.logs.reading import Extent, Line, Logs
from tokenfleet.cli.logs.selection import ROLES, check_role, parse_span, selector

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


@options.in_cluster
def logs(
    name: options.Name,
    role: Annotated[str | None, typer.Option("--role", help=f"One of {', '.join(ROLES)}; all where left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted, with pods that come.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of containers before they were started again.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=-1, help="Last lines of each container; -1: all.")] = 100,
    since: Annotated[str | None, typer.Option("--since", help="No older than 30s, 10m, 2h or 1d.", show_default=False)] = None,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Show the logs of all pods of an LLMDeployment, in the order of time.

    tokenfleet logs llama -f

    tokenfleet logs llama --role engine --previous
    """
    if follow and previous:
        raise Unusable("--previous is of containers that have ended, and --follow of those that go on: give one of the two.")
    extent = Extent(
        tail=None if tail < 0 else tail, since_seconds=parse_span(since) if since is not None else None, previous=previous
    )
    check_role(role)
    cluster = connect(place)
    owner = deployments_of(cluster).get(name)
    router = ((owner.get("spec") or {}).get("routerRef") or {}).get("name")
    chosen = Logs(cluster, namespace=cluster.namespace, selector=selector(name, role, router=router), role=role)
    try:
        asyncio.run(_show(chosen, extent, _writer(as_json=as_json), follow=follow, name=f"{name} -n {cluster.namespace}"))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise Unreachable(f"The log broke off ({error}): is the cluster up?") from error


async def _show(chosen: Logs, extent: Extent, write: Callable[[Line], None], *, follow: bool, name: str) -> None:
    async with chosen:
        if follow:
            await chosen.follow(extent, write, tell=lambda text: typer.echo(text, err=True))
            return
        sources = [one for one in await chosen.sources() if one.restarts or not extent.previous]
        if not sources and extent.previous:
            raise CliError("No container was started again, so there is no log of one before: leave --previous out.")
        if not sources:
            raise CliError(f"There are no such pods: `tokenfleet diagnose {name}` says why.")
        for line in await chosen.there(sources, extent):
            write(line)


def _writer(*, as_json: bool) -> Callable[[Line], None]:
    """To stdout, each line at once."""
    colours: dict[str, int] = {}
    terminal = sys.stdout.isatty()

    def write(line: Line) -> None:
        if as_json:
            text = json.dumps(_document(line))
        else:
            label = line.source.label
            colour = colours.setdefault(line.source.pod, _COLOURS[len(colours) % len(_COLOURS)])
            text = f"\x1b[{colour}m{label}\x1b[0m {line.text}" if terminal else f"{label} {line.text}"
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has enough: as by Ctrl-C
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            signal.raise_signal(signal.SIGINT)

    return write


def _document(line: Line) -> dict[str, Any]:
    return {"time": line.time, "pod": line.source.pod, "container": line.source.container, "line": line.text}
