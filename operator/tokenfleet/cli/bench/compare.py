"""`tokenfleet bench compare`: whether one run, or one side's runs, did better than the other's."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tokenfleet.bench.comparison import DRAWS, GATED, METRICS, RATES, Comparison, Difference, compare
from tokenfleet.bench.started import promises
from tokenfleet.cli import options
from tokenfleet.cli.bench import given
from tokenfleet.cli.bench.report import read
from tokenfleet.cli.errors import Unusable

WORSE: Final = 3
"""Exit code where --fail-if-worse says so: neither 1, that it could not be done, nor 2, that it could not be meant."""
_COLOURS: Final = {"better": "green", "worse": "red", "no difference": "default", "unclear": "yellow"}


def compare_runs(
    runs: Annotated[
        list[str], typer.Argument(help="Two results; or several of each side with `vs` between them.", show_default=False)
    ],
    confidence: Annotated[float, typer.Option(help="Of the intervals, in percent.")] = 95.0,
    fail_if_worse: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="End with 3 where a figure is shown to be worse by more than that.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Show, and judge by, this alone: ttft.p95, requests_per_second, … May be repeated.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option(help="For goodput, such as ttft=500ms,itl=50ms; the runs' own where left out.")
    ] = None,
    draws: Annotated[int, typer.Option(min=100, help="How often the requests are drawn again for an interval.")] = DRAWS,
    seed: Annotated[int, typer.Option(help="Of the draws: the same gives the same.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Compare two load tests, figure by figure, each with a confidence interval of the difference.

    The second is better or worse where the whole interval is on one side of zero. Requests that run at the same time are not \
independent, so they are drawn again in blocks; of several runs, the runs are drawn again as well. Give several of each side:

    tokenfleet bench compare before-1 before-2 before-3 vs after-1 after-2 after-3 --fail-if-worse 5%
    """
    if not 50 <= confidence < 100:
        raise Unusable(f"--confidence {confidence:g}: it must be from 50 to below 100 percent.")
    limit = None if fail_if_worse is None else _percent(fail_if_worse)
    metrics = _metrics(metric)
    first, second = ([read(Path(name)) for name in side] for side in _sides(runs))
    promised = given.slo(slo) or promises(first[0])
    result = compare(first, second, slo=promised, confidence=confidence / 100, draws=draws, seed=seed)
    worse = [] if limit is None else result.worse(limit, metrics or GATED)
    if as_json:
        shown = result.as_json() | {"worse": [each.metric for each in worse]}
        typer.echo(json.dumps(shown, indent=2))
    else:
        _show(result, metrics or METRICS)
        for note in result.notes:
            typer.echo(note, err=True)
    if worse:
        typer.echo(f"Worse by more than {fail_if_worse}: {', '.join(map(_in_words, worse))}.", err=True)
        raise typer.Exit(WORSE)


def _sides(names: list[str]) -> tuple[list[str], list[str]]:
    if "vs" in names:
        place = names.index("vs")
        first, second = names[:place], names[place + 1 :]
    else:
        first, second = names[:1], names[1:]
    if not first or not second or "vs" in second or ("vs" not in names and len(names) != 2):
        raise Unusable("Name two results, A B, or several of each side with vs between them: A1 A2 vs B1 B2.")
    return first, second


def _percent(text: str) -> float:
    return given.number(text.strip().removesuffix("%"), "--fail-if-worse", most=100_000) / 100


def _metrics(names: list[str] | None) -> list[str]:
    for name in names or []:
        if name not in METRICS:
            raise Unusable(f"--metric {name}: there is none of that name; there are {', '.join(METRICS)}.")
    return list(names or [])


def _show(result: Comparison, metrics: list[str] | tuple[str, ...]) -> None:
    console = Console(width=None if Console().is_terminal else options.WIDE, highlight=False)
    table = Table("METRIC", "FIRST", "SECOND", "CHANGE", f"{100 * result.confidence:g} % INTERVAL", "SECOND IS", box=None)
    table.pad_edge = False
    for column in table.columns[1:5]:
        column.justify = "right"
    for each in result.differences:
        if each.metric in metrics:
            table.add_row(*_cells(each))
    console.print(table)


def _cells(difference: Difference) -> list[str]:
    low, high, verdict = difference.low, difference.high, difference.verdict
    return [
        difference.metric,
        _value(difference, difference.first),
        _value(difference, difference.second),
        f"{100 * difference.change:+.1f} %",
        "" if low is None or high is None else f"{100 * low:+.1f} … {100 * high:+.1f} %",
        f"[{_COLOURS[verdict]}]{verdict}[/]",
    ]


def _value(difference: Difference, value: float) -> str:
    if difference.metric == "error_share":
        return f"{100 * value:.2f} %"
    return f"{value:,.4g}/s" if difference.metric in RATES else f"{1000 * value:,.4g} ms"


def _in_words(difference: Difference) -> str:
    return f"{difference.metric} ({100 * difference.change:+.1f} %)"
