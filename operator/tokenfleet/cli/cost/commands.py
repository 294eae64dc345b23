"""`tokenfleet cost`: what the engines of a cluster cost, by LLMDeployment, key or namespace; `break-even` is the other command.

`tokenfleet cost NAME` means `tokenfleet cost show NAME`, since that is what is asked for most.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from tokenfleet.cli import options
from tokenfleet.cli.cost import drawing
from tokenfleet.cli.cost.bills import Bill, by_key, by_namespace, totals
from tokenfleet.cli.cost.compare import break_even
from tokenfleet.cli.cost.sources import Account, Source, account, open_source
from tokenfleet.cli.errors import Unusable
from tokenfleet.cli.options import Place
from tokenfleet.planning.cost import OUTPUT_WEIGHT


class By(StrEnum):
    """What a line is about."""

    DEPLOYMENT = "deployment"
    KEY = "key"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the commands take from outside."""

    open_source: Callable[[Place], Source] = open_source
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _ShowUnlessTold(TyperGroup):
    """`show`, where no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowUnlessTold,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "What the engines cost, and when an API would be cheaper.\n\n"
        "`tokenfleet cost [NAME…]` means `tokenfleet cost show [NAME…]`: it asks the cluster for LLMDeployments, and their "
        "routers for tokens. `tokenfleet cost break-even` asks no cluster."
    ),
)
app.command("break-even")(break_even)


@app.command()
@options.in_cluster
def show(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="LLMDeployments; all where left out.", autocompletion=options.names),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    by: Annotated[By, typer.Option(help="What a line is about.")] = By.DEPLOYMENT,
    over: Annotated[
        str | None, typer.Option(help="Look twice, so long apart (30s, 5m), and tell of that time alone.", metavar="SPAN")
    ] = None,
    output_weight: Annotated[
        float, typer.Option(help="Tokens of a prompt that one of an answer counts as, where a cost is shared out.")
    ] = OUTPUT_WEIGHT,
    as_json: options.Json = False,
    _accelerators: options.Accelerators = None,
    *,
    place: options.Place,
) -> None:
    """Show what engines cost: an hour, a request, a million tokens in and out, and the share that ran idle.

    tokenfleet cost -A

    tokenfleet cost llama -n chat --over 5m

    tokenfleet cost -A --by key

    What a million tokens cost is what the controller measured over the last hour of use, shared out by what routers have
    counted since they began; --over measures both anew.
    """
    if names and everywhere:
        raise Unusable("--all-namespaces is for all LLMDeployments: leave it out, or the names.")
    if output_weight <= 0:
        raise Unusable(f"--output-weight {output_weight:g}: a token of an answer counts for more than nothing.")
    tools = context.obj if isinstance(context.obj, Tools) else Tools()
    source = tools.open_source(place)
    seconds = _seconds(over) if over is not None else None
    with _Doing(tools) as doing:
        found = account(
            source,
            names or (),
            everywhere=everywhere,
            over=seconds,
            output_weight=output_weight,
            clock=tools.clock,
            wait=doing.wait,
            tell=doing.tell,
        )
    for line in found.trouble:
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(_as_json(found, by, output_weight=output_weight)))
        return
    if not found.bills:
        where = "in any namespace" if everywhere else f"in the namespace {source.namespace}"
        typer.echo(f"There is no LLMDeployment {where}.", err=True)
        return
    _draw(found, by, namespaces=everywhere, output_weight=output_weight)
    for line in _remarks(found.bills, measured=seconds is not None):
        typer.echo(line, err=True)


def _draw(found: Account, by: By, *, namespaces: bool, output_weight: float) -> None:
    screen = drawing.console()
    if by is By.DEPLOYMENT:
        screen.print(drawing.bills(found.bills, namespaces=namespaces))
        if len(found.bills) > 1 and (whole := totals(_costs(found.bills))):
            screen.print(f"Together {drawing.sums(whole)} an hour.")
        return
    shares = by_namespace(found.bills) if by is By.NAMESPACE else by_key(found.bills, output_weight=output_weight)
    if shares:
        screen.print(drawing.shares(shares, by=by.value))
    else:
        typer.echo("No router has counted a token yet.", err=True)


def _remarks(bills: tuple[Bill, ...], *, measured: bool) -> list[str]:
    """Why there are gaps, and what to do about them."""
    lines = []
    if unpriced := sorted({bill.accelerator for bill in bills if bill.hourly is None and not bill.priced}):
        names, have = " and ".join(unpriced), "have" if len(unpriced) > 1 else "has"
        lines.append(
            f"{names} {have} no price: set one with the chart's value accelerators, for instance "
            f"--set accelerators.{unpriced[0]}.price.on_demand=2.5 (docs/accelerators.md)."
        )
    if silent := [bill.name for bill in bills if bill.hourly is None and bill.priced]:
        lines.append(f"The controller has not said yet what {', '.join(silent)} costs: see `kubectl get llmd -o wide`.")
    unused = [bill.name for bill in bills if bill.hourly is not None and bill.rates.per_million_tokens is None]
    if unused:
        after = "in that time" if measured else "so far, or not measured yet: --over 60s measures now"
        lines.append(f"No tokens of {', '.join(unused)} {after}.")
    return lines


def _costs(bills: tuple[Bill, ...]) -> list[dict[str, float]]:
    return [{bill.currency: bill.hourly} for bill in bills if bill.currency and bill.hourly is not None]


def _as_json(found: Account, by: By, *, output_weight: float) -> dict[str, Any]:
    if by is By.DEPLOYMENT:
        rows = [drawing.bill_json(bill) for bill in found.bills]
    else:
        shares = by_namespace(found.bills) if by is By.NAMESPACE else by_key(found.bills, output_weight=output_weight)
        rows = [drawing.share_json(share, by=by.value) for share in shares]
    return {f"{by.value}s": rows, "hourly": totals(_costs(found.bills)), "trouble": list(found.trouble)}


def _seconds(text: str) -> float:
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    unit = units.get(text[-1:], 0.0)
    try:
        value = float(text[:-1]) * unit
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86_400:
        raise Unusable(f"--over {text!r}: write a span between a second and a day, such as 30s, 5m or 1h.")
    return value


class _Doing:
    """Shows people on a terminal what is being done, and since when."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        screen = Console(stderr=True)
        self._progress = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
        self._task = self._progress.add_task("")

    def __enter__(self) -> "_Doing":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def wait(self, seconds: float) -> None:
        end = self._tools.clock() + seconds
        while (left := end - self._tools.clock()) > 0:
            self.tell(f"Counting for another {left:.0f} s")
            self._tools.sleep(min(1.0, left))
