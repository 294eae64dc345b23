"""The access log: a line of JSON on stdout for each request that has ended. No prompt, no answer, no credential.

By default it tells of those that went wrong; of all, or none, where the spec says so. It is never sampled: a request that
has no line under `All` did not happen, and one that has none under `Errors` was answered whole. Where stdout is not read,
lines are dropped and counted, not waited for.

Lines are made at once and handed on a few times a second, at a turn of the wheel of deadlines, so that a line costs no system
call and no thread switch of its own.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from tokenfleet.router.reporting.metrics import ANSWERED, RELAYED
from tokenfleet.router.reporting.record import Record
from tokenfleet.router.wire.deadlines import NEVER, Deadlines

_WELL: Final = frozenset((ANSWERED, RELAYED))
_ALL, _OFF = "All", "Off"
_BATCH_LINES: Final = 256
_SOON: Final = 0.0


class Outlet(Protocol):
    """Where lines go."""

    def put(self, data: bytes) -> bool:
        """Without waiting; False: dropped."""


class Line(msgspec.Struct, omit_defaults=True):
    """A request. Durations are in seconds; what is not known, or did not happen, is left out."""

    time: datetime
    request_id: str
    code: int
    reason: str
    path: str = ""
    model: str = ""
    key: str = ""
    """The name of the API key."""
    stream: bool = False
    replica: str = ""
    tries: int = 0
    seconds: float | None = None
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    first_byte_seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    trace_id: str = ""


class Dropped(msgspec.Struct):
    """Instead of lines that stdout did not take."""

    time: datetime
    dropped: int


class AccessLog:
    """A reader of the journal."""

    __slots__ = ("_clock", "_dropped", "_encoder", "_lines", "_outlet", "_wanted", "deadline")

    def __init__(self, outlet: Outlet, deadlines: Deadlines, *, wanted: Callable[[], str], clock: Callable[[], float]) -> None:
        """wanted: Errors, All or Off, as the spec says now. clock: seconds since 1970."""
        self._outlet = outlet
        self._wanted = wanted
        self._clock = clock
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []
        self._dropped = 0
        self.deadline = NEVER
        deadlines.add(self)

    def ended(self, record: Record) -> None:
        wanted = self._wanted()
        if wanted != _ALL and (wanted == _OFF or (record.code < 400 and record.reason in _WELL)):
            return
        self._lines.append(self._encoder.encode(_line(record, self._now())))
        self.deadline = _SOON
        if len(self._lines) >= _BATCH_LINES:
            self.flush()

    def expire(self) -> None:
        """A turn of the wheel."""
        self.flush()

    def flush(self) -> None:
        """Hand on what there is."""
        self.deadline = NEVER
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(self._encoder.encode(Dropped(self._now(), self._dropped)))
        if not lines:
            return
        if self._outlet.put(b"\n".join(lines) + b"\n"):
            self._dropped = 0
        else:
            self._dropped += len(lines) - bool(self._dropped)
            self.deadline = _SOON

    def _now(self) -> datetime:
        return datetime.fromtimestamp(round(self._clock(), 3), UTC)


def _line(record: Record, now: datetime) -> Line:
    traceparent = record.traceparent
    return Line(
        time=now,
        request_id=record.request_id.decode(),
        code=record.code,
        reason=record.reason,
        path=record.path.decode("latin-1"),
        model=record.model,
        key=record.key,
        stream=record.stream,
        replica=record.replica,
        tries=record.tries,
        seconds=_rounded(record.seconds),
        queue_seconds=_rounded(record.queued),
        prefill_seconds=_rounded(record.prefilled),
        first_byte_seconds=_rounded(record.first_byte),
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        trace_id=traceparent[3:35].decode("latin-1") if traceparent is not None else "",
    )


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 4) if seconds else None
