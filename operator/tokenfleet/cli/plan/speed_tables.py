"""What `plan speed` shows to people: tables of predictions with their errors, and of predictions beside measurements."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from tokenfleet.cli.options import WIDE
from tokenfleet.cli.plan.asked import Asked
from tokenfleet.cli.plan.units import span
from tokenfleet.planning.speed import Bound, Calibration, Point, Speed, Workload

_BOUNDS: Final[dict[Bound, str]] = {
    "compute": "computing",
    "bandwidth": "reading memory",
    "overhead": "overhead of steps",
    "interconnect": "the link between devices",
}


def show_one(asked: Asked, workload: Workload, speed: Speed, calibration: Calibration) -> None:
    console = _console()
    load = f"{workload.rate:g} requests/s" if workload.rate is not None else f"{workload.concurrency:g} requests at a time"
    console.print(f"{_what(asked)}, {workload.input_tokens} + {workload.output_tokens} tokens, {load}")
    table = Table("", "MEAN", f"P{workload.percentile * 100:g}", "±", "WAITS FOR", box=None, pad_edge=False)
    ttft, itl = f"{speed.ttft_error:.0%}", f"{speed.itl_error:.0%}"
    table.add_row("time to first token", span(speed.ttft), span(speed.ttft_tail), ttft, _BOUNDS[speed.prefill_bound])
    table.add_row("between tokens", span(speed.itl), span(speed.itl_tail), itl, _BOUNDS[speed.decode_bound])
    table.add_row("whole answer", span(speed.e2e), "", itl, "")
    table.add_row("output tokens/s", f"{speed.output_tokens_per_second:,.0f}", "", f"{speed.throughput_error:.0%}", "")
    table.add_row("requests/s", f"{speed.requests_per_second:.3g}", "", f"{speed.throughput_error:.0%}", "")
    console.print(table)
    console.print(
        f"{speed.batch:.1f} sequences in a step, {speed.places:.0f} find room; {speed.capacity:.3g} requests/s are the most at "
        f"these lengths."
    )
    _say_source(console, calibration)


def show_many(asked: Asked, rows: Sequence[tuple[Workload, Speed]], calibration: Calibration) -> None:
    console = _console()
    first, speed = rows[0]
    console.print(f"{_what(asked)}, {first.input_tokens} + {first.output_tokens} tokens")
    table = Table(box=None, pad_edge=False)
    for heading in (
        "AT A TIME",
        f"TTFT ±{speed.ttft_error:.0%}",
        f"P{first.percentile * 100:g}",
        f"ITL ±{speed.itl_error:.0%}",
        f"P{first.percentile * 100:g}",
        "ANSWER",
        f"TOKENS/S ±{speed.throughput_error:.0%}",
        "REQUESTS/S",
        "A STEP WAITS FOR",
    ):
        table.add_column(heading, justify="left" if heading == "A STEP WAITS FOR" else "right")
    for workload, found in rows:
        table.add_row(
            f"{workload.concurrency:g}",
            span(found.ttft),
            span(found.ttft_tail),
            span(found.itl),
            span(found.itl_tail),
            span(found.e2e),
            f"{found.output_tokens_per_second:,.0f}",
            f"{found.requests_per_second:.3g}",
            _BOUNDS[found.decode_bound],
        )
    console.print(table)
    console.print(f"{rows[-1][1].places:.0f} sequences find room; {rows[-1][1].capacity:.3g} requests/s are the most.")
    _say_source(console, calibration)


def show_points(pairs: Sequence[tuple[Point, Speed]]) -> None:
    """Predicted beside measured."""
    table = Table("LOAD", "TTFT", "MEASURED", "ITL", "MEASURED", "TOKENS/S", "MEASURED", box=None, pad_edge=False)
    for point, found in pairs:
        table.add_row(
            load_of(point),
            _beside(found.ttft, point.ttft),
            "" if point.ttft is None else span(point.ttft),
            _beside(found.itl, point.itl),
            "" if point.itl is None else span(point.itl),
            f"{found.output_tokens_per_second:,.0f}",
            "" if point.output_tokens_per_second is None else f"{point.output_tokens_per_second:,.0f}",
        )
    _console().print(table)


def load_of(point: Point) -> str:
    load = f"{point.rate:g}/s" if point.rate is not None else f"{point.concurrency:g} at a time"
    return f"{point.input_tokens} + {point.output_tokens} tokens, {load}"


def _beside(predicted: float, measured: float | None) -> str:
    return span(predicted) if measured is None else f"{span(predicted)} ({predicted / measured - 1:+.0%})"


def _what(asked: Asked) -> str:
    return f"{asked.name} on {asked.serving.devices} × {asked.serving.accelerator.name}"


def _say_source(console: Console, calibration: Calibration) -> None:
    console.print(f"± is the mean error against what it was not fitted to. Calibrated by {calibration.source}.")


def _console() -> Console:
    return Console(width=None if Console().is_terminal else WIDE, highlight=False)
