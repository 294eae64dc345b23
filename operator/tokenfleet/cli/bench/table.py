"""Shows the figures of a load test to people."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

from tokenfleet.bench.figures import Spread, Summary
from tokenfleet.bench.record import Run

LATE_SECONDS: Final = 0.01
"""A client whose requests are later than this is itself what is measured."""
_ROWS: Final = (
    ("ttft", "Time to first token"),
    ("itl", "Inter-token latency"),
    ("tpot", "Time per output token"),
    ("e2e", "End to end"),
)


def show(console: Console, summary: Summary) -> None:
    for line in headlines(summary):
        console.print(line, highlight=False, markup=False)
    table = Table("MILLISECONDS", "MEAN", "P50", "P90", "P95", "P99", "MAX", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, words in _ROWS:
        spread: Spread | None = getattr(summary, name)
        if spread is None:
            table.add_row(words, *["-"] * 6)
            continue
        values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
        table.add_row(words, *(_milliseconds(value) for value in values))
    console.print(table)


def headlines(summary: Summary) -> Iterator[str]:
    parts = [f"{summary.ok} whole"]
    parts += [
        f"{count} {word}" for count, word in ((summary.errors, "failed"), (summary.cut, "cut"), (summary.aborted, "left"))
    ]
    yield f"Requests: {summary.requests} in {summary.seconds:.1f} s: {', '.join(parts)}; {summary.concurrency:.1f} at once."
    yield (
        f"Throughput: {summary.requests_per_second:.2f} requests/s, {summary.output_tokens_per_second:.0f} tokens/s out, "
        f"{summary.input_tokens_per_second:.0f} in, {summary.total_tokens_per_second:.0f} together."
    )
    if summary.goodput is not None and summary.good is not None:
        yield f"Goodput: {summary.goodput:.2f} requests/s kept what --slo promises."


def warnings(summary: Summary, run: Run) -> Iterator[str]:
    if summary.lateness is not None and summary.lateness.p99 > LATE_SECONDS:
        yield (
            f"The client was late: one request in a hundred was sent {summary.lateness.p99 * 1000:.0f} ms or more after its "
            "moment, from which its latency counts. To measure the server alone, run this on another machine, or ask for less."
        )
    if any(not each.counted for each in run.exchanges if each.outcome == "ok"):
        yield "The server counts no tokens (no usage in its streams): chunks are counted instead, which may hold several."


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
