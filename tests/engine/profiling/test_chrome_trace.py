"""Traces as torch writes them, whole and damaged, read with buffers of any size."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tokenfleet_engine.profiling.chrome_trace import TraceInvalid, read_events, read_trace

EVENTS: list[dict[str, Any]] = [
    {"ph": "X", "cat": "cpu_op", "name": 'aten::mm "[x]"', "ts": 1.5, "dur": 2},
    {"ph": "M", "name": "process_name", "args": {"name": "naïve } ] , {"}},
]
HEAD = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "H100"}]}


def written(events: list[dict[str, Any]]) -> str:
    return json.dumps({**HEAD, "traceEvents": events, "traceName": "x"}, indent=2, ensure_ascii=False)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_events_come_one_by_one_whatever_the_buffer(chunk: int) -> None:
    assert list(read_events(io.StringIO(written(EVENTS)), chunk=chunk)) == EVENTS


def test_a_trace_without_events_is_a_trace() -> None:
    assert list(read_events(io.StringIO(written([])))) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_files_are_read_compressed_or_not(tmp_path: Path, compressed: bool) -> None:
    file = tmp_path / ("t.json.gz" if compressed else "t.json")
    content = written(EVENTS).encode()
    file.write_bytes(gzip.compress(content) if compressed else content)
    assert list(read_trace(file)) == EVENTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"a": []}', "is no Chrome trace: it has no list of traceEvents", id="other JSON"),
        pytest.param(written(EVENTS)[:-90], "is no valid JSON after event 1", id="cut off within an event"),
        pytest.param('{"traceEvents": [{"ph": "X"}', "was cut off within its events", id="cut off between events"),
        pytest.param('{"traceEvents": [{"ph": "X"}]', "is no valid JSON around its 1 events", id="cut off behind the events"),
        pytest.param('{"traceEvents": [{"ph": "X"} {}]}', "is no valid JSON after event 1", id="no comma"),
        pytest.param('{"traceEvents": [{"name": "x"}]}', "event 1 has no phase (ph)", id="a list of something else"),
    ],
)
def test_what_is_no_whole_trace_is_found_out(text: str, message: str) -> None:
    with pytest.raises(TraceInvalid) as caught:
        list(read_events(io.StringIO(text)))
    assert message in str(caught.value)


def test_a_file_that_ends_early_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "t.json.gz"
    file.write_bytes(gzip.compress(written(EVENTS).encode())[:-30])
    with pytest.raises(TraceInvalid, match="cannot be read to its end"):
        list(read_trace(file))
