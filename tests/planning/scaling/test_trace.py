"""Traces: what is written is read again, and what cannot be meant is refused with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.planning.scaling import Signal
from tokenfleet.planning.scaling.trace import BadTrace, Line, read_trace, write_line

counts = st.integers(0, 10_000)
spans = st.none() | st.floats(0, 1e6)
signals = st.builds(
    Signal,
    waiting=counts,
    in_flight=counts,
    ready=counts,
    starting=counts,
    pending=counts,
    idle_seconds=spans,
    ttft_p95=spans,
    itl_p95=spans,
)


@given(st.lists(st.tuples(st.floats(0, 4e9), st.none() | signals), min_size=1, max_size=5))
def test_what_is_written_is_read_again(told: list[tuple[float, Signal | None]]) -> None:
    lines = [Line(time, signal) for time, signal in sorted(told, key=lambda each: each[0])]
    assert list(read_trace(write_line(line) for line in lines)) == lines


def test_a_line_says_no_more_than_it_must() -> None:
    signal = Signal(waiting=0, in_flight=2, ready=1, ttft_p95=0.5)
    assert write_line(Line(5.0, signal)) == '{"time": 5.0, "waiting": 0, "inFlight": 2, "ready": 1, "ttftP95": 0.5}'
    assert write_line(Line(6.0, None)) == '{"time": 6.0, "missing": true}'


def test_times_may_be_written_as_people_do() -> None:
    told = [
        '{"time": "1970-01-01T01:00:10+01:00", "waiting": 1, "inFlight": 0, "ready": 0}',
        "",
        '{"time": 10, "missing": true}',
    ]
    assert list(read_trace(told)) == [Line(10.0, Signal(waiting=1, in_flight=0, ready=0)), Line(10.0, None)]


GOOD = '{"time": 1, "waiting": 0, "inFlight": 0, "ready": 1}'


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param([], "the trace is empty: it needs at least one line such as {", id="nothing"),
        pytest.param([GOOD, "waiting=3"], "line 2: no JSON (", id="no JSON"),
        pytest.param([GOOD, "", "[1]"], "line 3: must be an object, such as {", id="a list"),
        pytest.param(['{"waiting": 0}'], "line 1: time must be Unix seconds or RFC 3339 (given: None)", id="no time"),
        pytest.param(['{"time": "noon"}'], "line 1: time 'noon' is no RFC 3339: write it as", id="a word for a time"),
        pytest.param(['{"time": NaN}'], "line 1: time must be Unix seconds or RFC 3339 (given: nan)", id="not a number"),
        pytest.param(
            ['{"time": 1, "waiting": 0, "ready": 1}'],
            'line 1: inFlight is missing: add it, or "missing": true where nothing was known',
            id="a level is missing, which is not nought",
        ),
        pytest.param([GOOD.replace("ready", "Ready")], "line 1: no field is called 'Ready'; there are time,", id="a typo"),
        pytest.param(
            [GOOD.replace('"waiting": 0', '"waiting": 1.5')],
            "line 1: waiting must be a whole number, 0 or more (given: 1.5)",
            id="half a request",
        ),
        pytest.param([GOOD.replace('"ready": 1', '"ready": true')], "line 1: ready must be a whole number", id="a truth"),
        pytest.param(
            [GOOD.replace("}", ', "ttftP95": "fast"}')],
            "line 1: ttftP95 must be seconds, 0 or more, or null (given: 'fast')",
            id="a word for seconds",
        ),
        pytest.param(['{"time": 1, "missing": 1}'], "line 1: missing must be true or false (given: 1)", id="a number"),
        pytest.param(
            [GOOD, GOOD.replace('"time": 1', '"time": 0.5')],
            "line 2: time goes back by 0.5 s: sort the lines by time",
            id="time goes back",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(told: list[str], expected: str) -> None:
    with pytest.raises(BadTrace) as refused:
        list(read_trace(told))
    assert str(refused.value).startswith(expected)
