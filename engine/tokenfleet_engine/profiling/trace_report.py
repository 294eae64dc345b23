"""What a session's traces say, for a person and as JSON: each file's size and steps, and what took longest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenfleet_engine.profiling.self_times import TraceSummary
from tokenfleet_engine.profiling.tables import Table, render, size

TOP: Final = 15
LONGEST_NAME: Final = 72


def describe_trace(name: str, summary: TraceSummary, *, file_bytes: int) -> str:
    measured = sum(operation.self_us for operation in summary.operations)
    steps = f", {summary.steps} steps of the engine" if summary.steps else ""
    title = f"{name}: {size(file_bytes)}, {summary.events} events over {summary.seconds:.2f} s{steps}"
    rows = tuple(
        (
            _short(operation.name), operation.place, f"{operation.calls}", f"{operation.self_us / 1000:.2f}",
            f"{100 * operation.self_us / measured:.1f} %", f"{operation.total_us / operation.calls:.1f}",
        )
        for operation in summary.operations[:TOP]
        if measured
    )  # fmt: skip
    if not rows:
        return f"{title}\n  no operations of torch's in it"
    return render(Table(title, ("operation", "on", "calls", "self ms", "share", "mean µs"), rows))


def as_json(summaries: Mapping[Path, TraceSummary], *, sent: Mapping[str, Any]) -> dict[str, Any]:
    return {"traces": [_trace(file, summary) for file, summary in summaries.items()], "requests": dict(sent)}


def _trace(file: Path, summary: TraceSummary) -> dict[str, Any]:
    operations: Sequence[dict[str, Any]] = [
        {"name": o.name, "on": o.place, "calls": o.calls, "self_seconds": o.self_us / 1e6, "total_seconds": o.total_us / 1e6}
        for o in summary.operations
    ]
    return {
        "file": file.name, "bytes": file.stat().st_size, "events": summary.events, "seconds": summary.seconds,
        "steps": summary.steps, "operations": operations,
    }  # fmt: skip


def _short(name: str) -> str:
    """Kernels are templates with names of a thousand letters."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
