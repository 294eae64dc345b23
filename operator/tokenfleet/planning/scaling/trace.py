"""A recorded load as lines of JSON: what the routers and the pods said, whenever that changed.

    {"time": 1794906000.0, "waiting": 3, "inFlight": 40, "ready": 2, "starting": 1, "ttftP95": 0.8}
    {"time": "2026-11-17T09:00:10Z", "missing": true}

A line holds until the next. `time` is in Unix seconds or RFC 3339, and does not go back; a field that is left out is 0, or for
idleSeconds, ttftP95 and itlP95 not known. Written and read here, so that both agree.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from tokenfleet.errors import TokenfleetError
from tokenfleet.planning.scaling.signal import Signal

_COUNTS: Final = {"waiting": "waiting", "inFlight": "in_flight", "ready": "ready", "starting": "starting", "pending": "pending"}
_SECONDS: Final = {"idleSeconds": "idle_seconds", "ttftP95": "ttft_p95", "itlP95": "itl_p95"}
_NEEDED: Final = ("waiting", "inFlight", "ready")
_FIELDS: Final = ("time", *_COUNTS, *_SECONDS, "missing")


class BadTrace(TokenfleetError):
    """A line cannot be meant; the message says which, and what to change."""


@dataclass(frozen=True, slots=True)
class Line:
    """What was known from a time on."""

    time: float
    signal: Signal | None
    """None: not every router reported."""


def read_trace(lines: Iterable[str]) -> Iterator[Line]:
    """Empty lines are passed over. Raises BadTrace at the first line that is wrong, and where there is none at all."""
    last = None
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        line = _parse(text, number)
        if last is not None and line.time < last:
            raise BadTrace(f"line {number}: time goes back by {last - line.time:g} s: sort the lines by time")
        last = line.time
        yield line
    if last is None:
        raise BadTrace(
            "the trace is empty: it needs at least one line such as "
            + write_line(Line(0.0, Signal(waiting=0, in_flight=0, ready=1)))
        )


def write_line(line: Line) -> str:
    """Without what reading takes for granted."""
    if line.signal is None:
        return json.dumps({"time": line.time, "missing": True})
    counts = {name: getattr(line.signal, field) for name, field in _COUNTS.items()}
    spans = {name: getattr(line.signal, field) for name, field in _SECONDS.items()}
    told = {name: count for name, count in counts.items() if count or name in _NEEDED}
    return json.dumps({"time": line.time, **told, **{name: span for name, span in spans.items() if span is not None}})


def _parse(text: str, number: int) -> Line:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise BadTrace(f"line {number}: no JSON ({error}): each line is an object of its own") from error
    if not isinstance(fields, dict):
        raise BadTrace(f'line {number}: must be an object, such as {{"time": 0, "waiting": 0, "inFlight": 0, "ready": 1}}')
    for name in fields:
        if name not in _FIELDS:
            raise BadTrace(f"line {number}: no field is called {name!r}; there are {', '.join(_FIELDS)}")
    time = _time(fields, number)
    missing = fields.get("missing", False)
    if not isinstance(missing, bool):
        raise BadTrace(f"line {number}: missing must be true or false (given: {missing!r})")
    if missing:
        return Line(time, None)
    for name in _NEEDED:
        if name not in fields:
            raise BadTrace(f'line {number}: {name} is missing: add it, or "missing": true where nothing was known')
    counts = {field: _count(name, fields.get(name, 0), number) for name, field in _COUNTS.items()}
    spans = {field: _span(name, fields.get(name), number) for name, field in _SECONDS.items()}
    return Line(time, replace(Signal(**counts), **spans))  # type: ignore[arg-type]


def _time(fields: dict[str, Any], number: int) -> float:
    given = fields.get("time")
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            raise BadTrace(f"line {number}: time {given!r} is no RFC 3339: write it as 2026-11-17T09:00:00Z") from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if _number(given):
        return float(given)  # type: ignore[arg-type]
    raise BadTrace(f"line {number}: time must be Unix seconds or RFC 3339 (given: {given!r})")


def _count(name: str, given: object, number: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise BadTrace(f"line {number}: {name} must be a whole number, 0 or more (given: {given!r})")
    return given


def _span(name: str, given: object, number: int) -> float | None:
    if given is None:
        return None
    if not _number(given):
        raise BadTrace(f"line {number}: {name} must be seconds, 0 or more, or null (given: {given!r})")
    return float(given)  # type: ignore[arg-type]


def _number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and isfinite(given) and given >= 0
