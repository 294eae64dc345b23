"""What a load test is to do, read from its options: which load, how long, what is asked, and what is promised. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenfleet.bench.arrivals import Closed, Open, Pattern, Process, Ramp, Trace
from tokenfleet.bench.client import Endpoint
from tokenfleet.bench.figures import Slo, Trim
from tokenfleet.bench.load import Leaving, Stop
from tokenfleet.bench.prompts import Lengths, Prompt
from tokenfleet.cli.bench import given
from tokenfleet.cli.errors import Unusable

REQUESTS: Final = 100
"""Where nobody says how many, or how long."""
CONCURRENCY: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of the load, as its options have it: at most one of concurrency, rate and ramp."""

    concurrency: int | None = None
    rate: float | None = None
    ramp: str | None = None
    arrivals: Process | None = None
    think: str | None = None
    max_concurrency: int | None = None

    def pattern(self, times: tuple[float, ...] | None) -> Pattern:
        """times: of a trace, which count where no other load is asked for. Raises Unusable."""
        chosen = [name for name in ("concurrency", "rate", "ramp") if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise Unusable(f"--{chosen[0]} and --{chosen[1]} are two loads: choose one of --concurrency, --rate and --ramp.")
        process = self.arrivals or "poisson"
        if self.rate is not None:
            pattern: Pattern = Open(given.positive(self.rate, "--rate"), process)
        elif self.ramp is not None:
            pattern = given.ramp(self.ramp, process)
        elif times is not None and self.concurrency is None:
            pattern = Trace(times)
        else:
            pattern = Closed(self.concurrency or CONCURRENCY, given.seconds(self.think, "--think") if self.think else 0.0)
        self._check(pattern)
        return pattern

    def _check(self, pattern: Pattern) -> None:
        if self.arrivals is not None and not isinstance(pattern, Open | Ramp):
            raise Unusable("--arrivals says how requests come at a --rate or --ramp: give one of them.")
        if isinstance(pattern, Closed):
            if self.max_concurrency is not None:
                raise Unusable("--max-concurrency bounds an open loop; in a closed one --concurrency says how many there are.")
        elif self.think is not None:
            raise Unusable("--think is for the users of a closed loop: give --concurrency.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A whole test, before anything is known of the server."""

    pattern: Pattern
    stop: Stop
    warmup: Trim
    cooldown: Trim | None
    slo: Slo | None
    leaving: Leaving | None
    max_concurrency: int | None
    seed: int


def build_asked(
    shape: Shape,
    *,
    times: tuple[float, ...] | None,
    requests: int | None,
    duration: str | None,
    grace: str,
    warmup: str | None,
    cooldown: str | None,
    slo: str | None,
    abort_share: float | None,
    abort_after: str | None,
    seed: int,
) -> Asked:
    """Raises Unusable."""
    pattern = shape.pattern(times)
    lasts = given.seconds(duration, "--duration") if duration is not None else None
    if lasts is None and isinstance(pattern, Ramp):
        lasts = pattern.seconds
    if requests is None and lasts is None and times is None:
        requests = REQUESTS
    trim = given.trim(warmup, "--warmup") if warmup is not None else Trim(requests=_users(pattern))
    if requests is not None:
        requests += trim.requests
    if lasts is not None and trim.seconds >= lasts:
        raise Unusable(f"--warmup {warmup}: it leaves nothing of {lasts:g} s.")
    return Asked(
        pattern=pattern,
        stop=Stop(requests=requests, seconds=lasts, grace=given.seconds(grace, "--grace")),
        warmup=trim,
        cooldown=given.trim(cooldown, "--cooldown") if cooldown is not None else None,
        slo=given.slo(slo),
        leaving=_leaving(abort_share, abort_after),
        max_concurrency=shape.max_concurrency,
        seed=seed,
    )


def describe(pattern: Pattern) -> dict[str, Any]:
    """For a run's meta."""
    match pattern:
        case Closed(concurrency, think):
            return {"kind": "closed", "concurrency": concurrency, "thinkSeconds": think}
        case Open(rate, process):
            return {"kind": "open", "rate": rate, "arrivals": process}
        case Ramp(first, last, seconds, process):
            return {"kind": "ramp", "first": first, "last": last, "seconds": seconds, "arrivals": process}
        case Trace(times):
            return {"kind": "trace", "arrivals": len(times)}


def pick_model(wanted: str | None, listed: Iterable[Mapping[str, Any]], base: str) -> str:
    """Of those that /v1/models lists. Raises Unusable."""
    models = [model for model in listed if isinstance(model.get("id"), str)]
    names = [model["id"] for model in models]
    if wanted is not None:
        if wanted not in names:
            raise Unusable(f"{base} has no model {wanted}; it has: {', '.join(names) or 'none'}.")
        return wanted
    whole = [model["id"] for model in models if not model.get("parent")]
    if len(whole) != 1:
        raise Unusable(f"--model is missing; {base} has: {', '.join(names) or 'none'}.")
    return str(whole[0])


def pick_endpoint(wanted: Endpoint | None, prompt: Prompt | None, *, turns: int) -> Endpoint:
    """Chat where conversations are to be had. Raises Unusable."""
    talks = turns > 1 or (prompt is not None and (prompt.messages is not None or bool(prompt.turns)))
    if talks and wanted == "completions":
        raise Unusable("--endpoint completions has no conversations: leave it out, or ask one turn each.")
    return wanted or ("chat" if talks else "completions")


def lengths_of(text: str | None, option: str, default: int) -> Lengths:
    return given.lengths(text, option) if text is not None else Lengths("fixed", default)


def check_file(path: Path, option: str) -> None:
    if not path.is_file():
        raise Unusable(f"{option} {path}: there is no such file.")


def _users(pattern: Pattern) -> int:
    return pattern.concurrency if isinstance(pattern, Closed) else 0


def _leaving(share: float | None, after: str | None) -> Leaving | None:
    if share is None and after is None:
        return None
    if share is None or after is None:
        raise Unusable("--abort-share and --abort-after belong together: how many clients leave, and after how long.")
    return Leaving(given.share(share, "--abort-share"), given.seconds(after, "--abort-after"))
