"""Self times of operations within operations, on several threads and a device."""

from typing import Any

from tokenfleet_engine.profiling.self_times import BETWEEN, summarise
from tokenfleet_engine.profiling.trace_report import describe_trace


def operation(name: str, begin: float, lasts: float, *, thread: int = 1, category: str = "cpu_op") -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "ts": begin, "dur": lasts, "pid": 1, "tid": thread}


TRACE = [
    operation("linear", 0, 100),
    operation("mm", 10, 60),
    operation("copy", 20, 10),
    operation("copy", 70, 10),
    operation("mm", 200, 50, thread=2),
    operation("frame.py: forward", 0, 300, category="python_function"),
    operation("gemm", 500, 400, thread=7, category="kernel"),
    {"ph": "M", "name": "process_name"},
]


def test_a_callers_time_is_without_its_callees() -> None:
    found = {each.name: (each.place, each.calls, each.self_us, each.total_us) for each in summarise(TRACE).operations}
    assert found == {
        "linear": ("host", 1, 30, 100),
        "mm": ("host", 2, 100, 110),
        "copy": ("host", 2, 20, 20),
        "gemm": ("device", 1, 400, 400),
    }


def test_the_order_of_events_in_the_file_does_not_matter() -> None:
    assert summarise(reversed(TRACE)).operations == summarise(TRACE).operations


def test_the_longest_stands_first_and_the_span_is_the_whole_traces() -> None:
    summary = summarise(TRACE)
    assert summary.operations[0].name == "gemm"
    assert (summary.events, summary.seconds) == (8, 900 / 1e6)


def test_the_engines_steps_are_counted_with_their_time_between_operations() -> None:
    steps = [
        operation("execute_context_1(128)_generation_0(0)", 0, 100, category="user_annotation"),
        operation("mm", 10, 60),
        operation("execute_context_0(0)_generation_1(1)", 200, 50, category="user_annotation"),
        operation("something else", 300, 50, category="user_annotation"),
    ]
    summary = summarise(steps)
    assert summary.steps == 2
    assert {each.name: each.self_us for each in summary.operations} == {BETWEEN: 90, "mm": 60}


def test_a_trace_is_described_with_shares_and_short_names() -> None:
    text = describe_trace("t.json.gz", summarise([operation("k" * 500, 0, 30), operation("mm", 40, 10)]), file_bytes=2048)
    assert text.startswith("t.json.gz: 2.0 KiB, 2 events over 0.00 s\n")
    assert "75.0 %" in text and "25.0 %" in text
    assert max(map(len, text.splitlines())) < 128


def test_a_trace_without_operations_says_so() -> None:
    assert "no operations of torch's in it" in describe_trace("t", summarise([]), file_bytes=1)
