"""Which operations a trace's time went into: their own time, without that of operations within them.

On the host the operations of a thread lie within one another, and a caller's time holds its callees'; kernels on a device
do not. Python's frames and most annotations are no operations and are left out. vLLM's annotation of a step is kept, under one
name: its own time is what Python takes between the operations. Of an event only numbers are kept, since there may be millions.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

HOST: Final = frozenset({"cpu_op", "cuda_runtime", "cuda_driver", "xpu_runtime", "privateuse1_runtime"})
DEVICE: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
STEP: Final = "execute_"
"""How vLLM's annotation of a step begins: execute_context_1(128)_generation_2(2)."""
BETWEEN: Final = "(within a step, between operations)"


@dataclass(slots=True)
class Operation:
    name: str
    place: str
    """host or device"""
    calls: int = 0
    self_us: float = 0.0
    total_us: float = 0.0


@dataclass(slots=True)
class TraceSummary:
    events: int
    seconds: float
    """From its first event to its last."""
    steps: int
    operations: list[Operation]
    """By self time, the longest first."""


@dataclass(slots=True)
class _Track:
    """A thread's or stream's operations."""

    begins: "array[float]" = field(default_factory=lambda: array("d"))
    lasts: "array[float]" = field(default_factory=lambda: array("d"))
    names: "array[int]" = field(default_factory=lambda: array("L"))


def summarise(events: Iterable[Mapping[str, Any]]) -> TraceSummary:
    tracks: dict[tuple[Any, Any], _Track] = {}
    numbers: dict[tuple[str, str], int] = {}
    first, last = float("inf"), float("-inf")
    count = steps = 0
    for event in events:
        count += 1
        if event.get("ph") != "X" or "ts" not in event:
            continue
        begin, lasts = float(event["ts"]), float(event.get("dur", 0.0))
        first, last = min(first, begin), max(last, begin + lasts)
        category, name = str(event.get("cat", "")), str(event.get("name", ""))
        if category == "user_annotation" and name.startswith(STEP):
            steps += 1
            category, name = "cpu_op", BETWEEN
        place = "host" if category in HOST else "device" if category in DEVICE else ""
        if place:
            track = tracks.setdefault((event.get("pid"), event.get("tid")), _Track())
            track.begins.append(begin)
            track.lasts.append(lasts)
            track.names.append(numbers.setdefault((name, place), len(numbers)))
    operations = [Operation(name, place) for name, place in numbers]
    for track in tracks.values():
        _add_times(track, operations)
    operations.sort(key=lambda operation: -operation.self_us)
    return TraceSummary(count, max(0.0, last - first) / 1e6, steps, operations)


def _add_times(track: _Track, operations: list[Operation]) -> None:
    """Walk the operations by their begin, the longer first; those that still run are a stack, the innermost on top."""
    begins, lasts = track.begins, track.lasts
    running: list[tuple[float, Operation]] = []
    for number in sorted(range(len(begins)), key=lambda number: (begins[number], -lasts[number])):
        operation, begin, duration = operations[track.names[number]], begins[number], lasts[number]
        while running and running[-1][0] <= begin:
            running.pop()
        if running:
            running[-1][1].self_us -= min(duration, running[-1][0] - begin)
        operation.calls += 1
        operation.self_us += duration
        operation.total_us += duration
        running.append((begin + duration, operation))
