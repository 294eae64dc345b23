"""`tokenfleet bench report`: a run as one HTML page, and its plots as PNG."""

from pathlib import Path
from typing import Annotated

import typer

from tokenfleet.bench.figures import Slo, Summary
from tokenfleet.bench.page import build_page
from tokenfleet.bench.plots import NoPlots, draw
from tokenfleet.bench.record import BadRun, Run, read_run
from tokenfleet.bench.started import promises, summary_of
from tokenfleet.cli.bench import given
from tokenfleet.cli.errors import CliError, Unusable

PAGE = "report.html"


def report(
    result: Annotated[Path, typer.Argument(help="A folder that `bench run` wrote, or its run.jsonl.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page: FILE.html, or a folder; beside the result where left out.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option(help="Promises, such as ttft=500ms,itl=50ms; those of the run where left out.")
    ] = None,
    plots: Annotated[bool, typer.Option("--png/--no-png", help="Write the plots also as PNG, beside the page.")] = True,
) -> None:
    """Write a page about a run: its figures, plots, and what became of its promises. It needs no other file, and no network.

    A run that was interrupted has a page as well, about what there was until then.

    tokenfleet bench report results/chat-8 -o chat-8.html
    """
    run = read(result)
    page = _page(out, result)
    try:
        write_report(run, page, slo=given.slo(slo) or promises(run), png=plots)
    except OSError as error:
        raise CliError(f"The report cannot be written: {error}.") from error
    typer.echo(f"Wrote {page}.", err=True)


def write_report(run: Run, page: Path, *, slo: Slo | None, summary: Summary | None = None, png: bool = True) -> None:
    """Raises OSError. png: beside the page, too."""
    summary = summary or summary_of(run, slo=slo)
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    without = ""
    try:
        drawn = draw(run, summary, slo=slo, folder=page.parent if png else None)
    except NoPlots as error:
        without = f"There are no plots, since {error}."
    page.write_text(build_page(run, summary, drawn, slo=slo, without_plots=without), encoding="utf-8")


def read(path: Path) -> Run:
    """Raises Unusable."""
    try:
        return read_run(path)
    except BadRun as error:
        raise Unusable(f"{error}.") from error


def _page(out: Path | None, result: Path) -> Path:
    folder = result if result.is_dir() else result.parent
    page = out or folder / PAGE
    return page if page.suffix in (".html", ".htm") else page / PAGE
