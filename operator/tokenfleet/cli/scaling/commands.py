"""`tokenfleet scaling`: a load is recorded, and replayed to see what autoscaling would do with it.

A replay goes to stdout as a table, or with --json as one object; all that is said about it goes to stderr.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.scaling.plot import check_plot, draw
from tokenfleet.cli.scaling.policy import chosen_policy
from tokenfleet.cli.scaling.record import Recorder
from tokenfleet.planning.scaling.demand import counted
from tokenfleet.planning.scaling.replay import Replay, replay
from tokenfleet.planning.scaling.trace import BadTrace, Line, read_trace

app = typer.Typer(no_args_is_help=True, help="What autoscaling would do with a load, and why.")
_WIDE: Final = 1_000
"""Columns of what is no terminal: there, a row is one line."""
_CALENDAR: Final = 1e8
"""Times from here on are moments, and smaller ones seconds of an experiment."""
_HOUR: Final = 3600


@app.command("replay")
def replay_trace(
    trace: Annotated[Path, typer.Argument(help="Lines of JSON, see above; - for stdin.", show_default=False)],
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="YAML of an LLMDeployment with spec.autoscaling.", show_default=False)
    ] = None,
    min_replicas: Annotated[int | None, typer.Option(min=0, help="As spec.autoscaling.minReplicas.")] = None,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="As spec.autoscaling.maxReplicas.")] = None,
    queue_depth: Annotated[int | None, typer.Option(min=1, help="As spec.autoscaling.queueDepth.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="As spec.autoscaling.concurrency.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="As spec.router.maxInFlight.")] = None,
    ttft_ms: Annotated[int | None, typer.Option(min=1, help="As spec.slo.ttftMilliseconds.")] = None,
    itl_ms: Annotated[int | None, typer.Option(min=1, help="As spec.slo.itlMilliseconds.")] = None,
    stabilization: Annotated[int | None, typer.Option(min=0, help="As scaleDown.stabilizationSeconds.")] = None,
    scale_to_zero_after: Annotated[int | None, typer.Option(min=1, help="As scaleToZeroAfterSeconds.")] = None,
    start: Annotated[
        int | None, typer.Option(min=0, help="Replicas wanted at first; as many as were there where left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw load and replicas: a .png, .svg or .pdf.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a policy would have done with a recorded load.

    A trace has one line of JSON for each change: {"time": 1794906000, "waiting": 3, "inFlight": 40, "ready": 2}, \
and where they are known "starting", "pending", "idleSeconds", "ttftP95" and "itlP95"; {"time": 1794906010, "missing": true} \
while a router was silent. The time is in Unix seconds or RFC 3339.

    The policy is that of --policy, and the options change it; or options alone, of which --max-replicas is needed.

    The load stays as it was recorded: replicas that only the policy wanted serve nobody here.
    """
    wanted = chosen_policy(
        policy,
        {
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "queue_depth": queue_depth,
            "concurrency": concurrency,
            "max_in_flight": max_in_flight,
            "ttft_seconds": ttft_ms / 1000 if ttft_ms else None,
            "itl_seconds": itl_ms / 1000 if itl_ms else None,
            "stabilization_seconds": stabilization,
            "scale_to_zero_seconds": scale_to_zero_after,
        },
    )
    if plot is not None:
        check_plot(plot)
    result = replay(wanted, _read(trace), desired=start)
    if as_json:
        typer.echo(json.dumps(_document(result)))
    else:
        _show(result)
    if plot is not None:
        draw(result, plot, title=f"What the policy would have done with {trace.name}")
        typer.echo(f"Wrote {plot}.", err=True)


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="Of the LLMDeployment.", show_default=False)],
    routers: Annotated[list[str], typer.Argument(help="Admin ports of all its routers' pods.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Append to this file; stdout where left out.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="For so long; until interrupted where left out.")] = None,
) -> None:
    """Record a trace from the routers of an LLMDeployment: a line whenever its load changed, once a second at most.

    Name the admin port of every router pod, since each knows its own requests alone. From outside of the cluster:

    kubectl port-forward pod/chat-router-7d9f8-x2x7k 9090 &

    tokenfleet scaling record chat 127.0.0.1:9090 -o trace.jsonl
    """
    recorder = Recorder(name, routers, clock=time.monotonic, now=time.time, tell=lambda text: typer.echo(text, err=True))
    try:
        with output.open("a", encoding="utf-8") if output is not None else contextlib.nullcontext(sys.stdout) as file:

            def write(line: str) -> None:
                file.write(line + "\n")
                file.flush()

            asyncio.run(recorder.lines(write, seconds=seconds))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise CliError(f"The trace {output} cannot be written: {error}.") from error


def _read(trace: Path) -> list[Line]:
    try:
        return list(read_trace(_lines(trace)))
    except BadTrace as error:
        raise Unusable(f"{trace}, {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"The trace {trace} cannot be read: {error}.") from error


def _lines(trace: Path) -> Iterator[str]:
    if str(trace) == "-":
        yield from sys.stdin
        return
    with trace.open(encoding="utf-8") as file:
        yield from file


def _document(result: Replay) -> dict[str, Any]:
    return {
        "began": result.began,
        "ended": result.ended,
        "replicaHours": round(result.wanted_seconds / _HOUR, 4),
        "recordedReplicaHours": round(result.recorded_seconds / _HOUR, 4),
        "changes": [
            {
                "time": change.time,
                "before": change.before,
                "after": change.decision.desired,
                "reason": change.decision.reason,
                "message": change.decision.message,
            }
            for change in result.changes
        ],
    }


def _show(result: Replay) -> None:
    console = Console(width=None if Console().is_terminal else _WIDE, highlight=False)
    if result.changes:
        table = Table("TIME", "FROM", "TO", "REASON", "MESSAGE", box=None, pad_edge=False)
        for change in result.changes:
            after = change.decision.desired
            colour = "green" if after > change.before else "yellow"
            told = (change.decision.reason, change.decision.message)
            table.add_row(_moment(change.time, result), str(change.before), f"[{colour}]{after}[/]", *told)
        console.print(table)
    else:
        console.print(f"Nothing would have changed: {result.points[-1].wanted} wanted all the time.")
    hours = (result.ended - result.began) / _HOUR
    wanted, there = result.wanted_seconds / _HOUR, result.recorded_seconds / _HOUR
    changes = counted(len(result.changes), "change")
    typer.echo(f"{changes} in {hours:.2f} h. Replica-hours: {wanted:.2f} wanted, {there:.2f} there.", err=True)


def _moment(time: float, result: Replay) -> str:
    if result.began >= _CALENDAR:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
    return f"+{time - result.began:.0f} s"
