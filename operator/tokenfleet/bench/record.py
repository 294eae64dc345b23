"""What became of each request of a load test, and of the test as a whole: plain data, as lines of JSON and back.

The first line is what the run was; then one a request, in the order in which they ended, so that a test that was killed has all
that it knew; the last says how it ended. Times are seconds since the run began. Nothing is counted here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tokenfleet.errors import TokenfleetError

Outcome = Literal["ok", "error", "aborted", "cut"]
"""ok: a whole answer. error: none. aborted: the client left on purpose. cut: an answer began, and did not end as it should."""
_OUTCOMES: Final = ("ok", "error", "aborted", "cut")
_DIGITS: Final = 6


class BadRun(TokenfleetError):
    """A file has no run that can be read; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer."""

    index: int
    intended: float
    """When it was to be sent: in an open loop what the arrivals say, whether or not the client came to it."""
    sent: float
    first: float | None
    """When the first chunk with a token came."""
    times: tuple[float, ...] = ()
    """When each chunk with tokens came; a server that is faster than its connection puts several tokens into one."""
    ended: float
    prompt_tokens: int = 0
    output_tokens: int = 0
    """As the server counts them; without its usage as many as there were chunks."""
    outcome: Outcome = "ok"
    error: str | None = None
    status: int | None = None
    """Of HTTP; none where no answer came."""
    conversation: int | None = None
    turn: int = 0
    counted: bool = True
    """By the server; otherwise its chunks were."""
    text: str | None = None
    """The answer, where it was kept for the next turn; not written to disk."""

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "index": self.index,
            "intended": round(self.intended, _DIGITS),
            "sent": round(self.sent, _DIGITS),
            "times": [round(time, _DIGITS) for time in self.times],
            "ended": round(self.ended, _DIGITS),
            "promptTokens": self.prompt_tokens,
            "outputTokens": self.output_tokens,
            "outcome": self.outcome,
        }
        if self.first is not None and not self.times:
            told["first"] = round(self.first, _DIGITS)
        extra = {
            "error": self.error,
            "status": self.status,
            "conversation": self.conversation,
            "turn": self.turn or None,
            "counted": None if self.counted else False,
        }
        return told | {name: value for name, value in extra.items() if value is not None}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Exchange":
        """Raises BadRun."""
        try:
            times = tuple(float(time) for time in told.get("times", ()))
            first = times[0] if times else told.get("first")
            if told["outcome"] not in _OUTCOMES:
                raise BadRun(f"outcome {told['outcome']!r} is none of {', '.join(_OUTCOMES)}")
            return cls(
                index=int(told["index"]),
                intended=float(told["intended"]),
                sent=float(told["sent"]),
                first=None if first is None else float(first),
                times=times,
                ended=float(told["ended"]),
                prompt_tokens=int(told.get("promptTokens", 0)),
                output_tokens=int(told.get("outputTokens", 0)),
                outcome=told["outcome"],
                error=told.get("error"),
                status=told.get("status"),
                conversation=told.get("conversation"),
                turn=int(told.get("turn", 0)),
                counted=bool(told.get("counted", True)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadRun(f"this is no request of a run ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, slots=True)
class Run:
    """A whole test."""

    meta: Mapping[str, Any] = field(default_factory=dict)
    """What was asked of what, and how it ended: see docs/load-tests.md."""
    exchanges: tuple[Exchange, ...] = ()

    @property
    def seconds(self) -> float:
        """From the beginning until the last answer had ended."""
        return max((each.ended for each in self.exchanges), default=0.0)

    def as_json(self) -> dict[str, Any]:
        return {"meta": dict(self.meta), "exchanges": [each.as_json() for each in self.exchanges]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Run":
        """Raises BadRun."""
        if not isinstance(told, Mapping) or not isinstance(told.get("exchanges"), list):
            raise BadRun("it has no list of exchanges: this is no result of `tokenfleet bench run`")
        return cls(dict(told.get("meta") or {}), tuple(map(Exchange.from_json, told["exchanges"])))

    def lines(self) -> Iterator[str]:
        """As a journal has them."""
        yield first_line(self.meta)
        for each in self.exchanges:
            yield exchange_line(each)


def first_line(meta: Mapping[str, Any]) -> str:
    return json.dumps({"run": dict(meta)})


def exchange_line(exchange: Exchange) -> str:
    return json.dumps(exchange.as_json(), separators=(",", ":"))


def last_line(ending: Mapping[str, Any]) -> str:
    """What became known of the run only at its end: added to its meta."""
    return json.dumps({"end": dict(ending)})


def parse_lines(lines: Iterable[str]) -> Run:
    """A journal. Its last line may be half a line: a run that was killed. Raises BadRun."""
    meta: dict[str, Any] = {}
    exchanges: list[Exchange] = []
    broken: str | None = None
    for number, line in enumerate(lines, 1):
        if broken is not None:
            raise BadRun(broken)
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except ValueError as error:
            broken = f"line {number} is no JSON ({error})"
            continue
        if not isinstance(told, dict):
            raise BadRun(f"line {number} is no object: this is no result of `tokenfleet bench run`")
        if "run" in told or "end" in told:
            meta |= told.get("run") or told.get("end") or {}
            continue
        try:
            exchanges.append(Exchange.from_json(told))
        except BadRun as error:
            raise BadRun(f"line {number}: {error}") from error
    if not meta and not exchanges:
        raise BadRun("it is empty: no run began")
    return Run(meta, tuple(exchanges))


def read_run(path: Path) -> Run:
    """Of a folder, a FILE.json, or a journal FILE.jsonl, whole or not. Raises BadRun."""
    found = path / JOURNAL if path.is_dir() else path
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRun(f"{found} cannot be read: {error}") from error
    try:
        if found.suffix == ".json":
            return Run.from_json(_document(text))
        return parse_lines(text.splitlines())
    except BadRun as error:
        raise BadRun(f"{found}: {error}") from error


JOURNAL: Final = "run.jsonl"
"""In a folder of results."""
SUMMARY: Final = "summary.json"


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRun(f"no JSON ({error})") from error
