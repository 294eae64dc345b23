"""The stages of a canary: what a changed spec has to show, step by step, until it is rolled out or rolled back. Pure.

All that is to survive a restart is the stage itself, which stands in status.rollout. It goes on only by what is known: without
word from the routers, or without its pod, a step holds. Failures that no chance explains, a first token that stays late, and an
engine that ends while it serves roll it back at once; the end of a pause asks for the plain rate.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from tokenfleet.api.pods import Canary
from tokenfleet.controller.observed import Json, TrackLoad
from tokenfleet.controller.rollouts.evidence import MIN_REQUESTS, SLOW_SECONDS, Figures, seconds_between

Phase = Literal["Progressing", "Promoting", "RolledBack"]
PROGRESSING: Final = "Progressing"
PROMOTING: Final = "Promoting"
ROLLED_BACK: Final = "RolledBack"

PROMOTE: Final = "promote"
ABORT: Final = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the canary right now."""

    pod_ready: bool = False
    trouble: str = ""
    """What keeps its pod from being ready, in sentences."""
    crash: str = ""
    """How its engine ended since it got its first share, in sentences."""
    load: TrackLoad | None = None
    """None: not all routers tell."""
    order: str = ""
    """PROMOTE or ABORT, by hand, of this very revision."""
    promote: str = ""
    """The command that rolls it out nevertheless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How far one revision is. `began`, `since`: RFC 3339 in UTC."""

    phase: Phase
    revision: str
    began: str
    since: str
    message: str
    step: int = 0
    weight: int = 0
    figures: Figures | None = None

    @classmethod
    def first(cls, revision: str, *, now: str) -> "Stage":
        return cls(phase=PROGRESSING, revision=revision, began=now, since=now, message="Its pod is being made.")

    @classmethod
    def from_status(cls, status: Json | None) -> "Stage | None":
        if not status:
            return None
        figures = Figures.from_status(status["figures"]) if "figures" in status else None
        known = {name: status[name] for name in ("phase", "revision", "began", "since", "message")}
        return cls(**known, step=status.get("step", 0), weight=status.get("weight", 0), figures=figures)

    def as_status(self) -> Json:
        status: Json = {
            "phase": self.phase,
            "revision": self.revision,
            "step": self.step,
            "weight": self.weight,
            "began": self.began,
            "since": self.since,
            "message": self.message,
        }
        return status if self.figures is None else {**status, "figures": self.figures.as_status()}

    def promoting(self, why: str, *, now: str) -> "Stage":
        """With the weight that it has: its pod serves until all others are like it."""
        message = f"{why} All engines are replaced now, each behind its drain."
        return replace(self, phase=PROMOTING, since=now, message=message)

    def rolled_back(self, why: str, *, now: str, promote: str) -> "Stage":
        place = f"Step {self.step}, {self.weight} % of the requests: " if self.step else ""
        message = f"{place}{why} The engines run on as they were. Change the spec, or roll it out nevertheless: {promote}"
        return replace(self, phase=ROLLED_BACK, weight=0, since=now, message=message)


def advance(canary: Canary, stage: Stage, facts: Facts, *, now: str) -> Stage:
    """The stage that follows one that is Progressing: mostly the same."""
    if facts.order == ABORT:
        return stage.rolled_back("It was aborted by hand.", now=now, promote=facts.promote)
    if facts.order == PROMOTE:
        return stage.promoting("It was promoted by hand.", now=now)
    if stage.step == 0:
        if facts.pod_ready:
            return _enter(canary, stage, 1, Figures(since=now, time=now, counted=_counters(facts.load)), now=now)
        words = f"Its pod is not ready: {facts.trouble}" if facts.trouble else "Its pod is not ready yet."
        return replace(stage, message=f"{words} It gets no requests until then.")
    known = stage.figures or Figures(since=stage.since, time=now)
    figures = known if facts.load is None else known.taken(facts.load, max_ttft=canary.max_ttft_milliseconds, now=now)
    over = seconds_between(stage.since, now) >= canary.pause_seconds
    if (fault := _fault(canary, figures, facts, over=over)) is not None:
        return replace(stage, figures=figures).rolled_back(fault, now=now, promote=facts.promote)
    hold = _hold(canary, figures, facts)
    if over and not hold:
        return _go_on(canary, stage, figures, now=now)
    shown = figures if figures.are_worth_telling(known) else known
    return _standing(canary, stage, figures=shown, hold=hold)


def seconds_left(canary: Canary, stage: Stage, *, now: str) -> float | None:
    """Until time alone may change a stage; None: it does not."""
    if stage.phase != PROGRESSING or stage.step == 0:
        return None
    waits = [canary.pause_seconds - seconds_between(stage.since, now)]
    if stage.figures is not None and stage.figures.slow_since is not None:
        waits.append(SLOW_SECONDS - seconds_between(stage.figures.slow_since, now))
    return min((wait for wait in waits if wait > 0), default=None)


def _fault(canary: Canary, figures: Figures, facts: Facts, *, over: bool) -> str | None:
    """What rolls it back, in sentences."""
    if facts.crash:
        return f"Its engine ended by itself. {facts.crash}"
    allowed = float(canary.max_error_rate)
    if figures.fail(allowed):
        return f"{figures.in_words()}, which no chance explains where maxErrorRate is {canary.max_error_rate}."
    if over and facts.load is not None and figures.rate > allowed:
        return f"{figures.in_words()} by the end of the pause, and maxErrorRate is {canary.max_error_rate}."
    if figures.slow_seconds() >= SLOW_SECONDS:
        return (
            f"For {SLOW_SECONDS:.0f} s, the first token took {figures.ttft_milliseconds} ms at the 95th percentile, and "
            f"maxTtftMilliseconds is {canary.max_ttft_milliseconds}."
        )
    return None


def _hold(canary: Canary, figures: Figures, facts: Facts) -> str:
    """What keeps it from going on although its pause is over, in a sentence; empty: nothing."""
    if facts.load is None:
        return "It holds at this step while not all routers tell what became of its requests."
    if not facts.pod_ready:
        return f"It holds at this step while its pod is not ready. {facts.trouble}".strip()
    if figures.slow_since is not None:
        return f"It holds at this step while the first token takes more than {canary.max_ttft_milliseconds} ms."
    return ""


def _go_on(canary: Canary, stage: Stage, figures: Figures, *, now: str) -> Stage:
    if stage.step < len(canary.weights):
        return _enter(canary, stage, stage.step + 1, figures, now=now)
    proof = f"{figures.in_words()}." if figures.requests else "No request reached it, so nothing spoke against it."
    return replace(stage, figures=figures).promoting(f"All steps are over: {proof}", now=now)


def _enter(canary: Canary, stage: Stage, step: int, figures: Figures, *, now: str) -> Stage:
    return _standing(canary, replace(stage, step=step, since=now), figures=figures)


def _standing(canary: Canary, stage: Stage, *, figures: Figures, hold: str = "") -> Stage:
    """At its step, with the weight that the spec gives that step now; steps that it has no more count as its last."""
    step = min(stage.step, len(canary.weights))
    weight = canary.weights[step - 1]
    told = f"Step {step} of {len(canary.weights)}: it gets {weight} % of the requests, for {canary.pause_seconds} s."
    silent = " No request has reached it yet." if step > 1 and not figures.requests else ""
    return replace(stage, step=step, weight=weight, figures=figures, message=f"{told}{silent} {hold}".strip())


def _counters(load: TrackLoad | None) -> tuple[int, int] | None:
    return None if load is None else (load.requests, load.failed)


__all__ = [
    "ABORT",
    "MIN_REQUESTS",
    "PROGRESSING",
    "PROMOTE",
    "PROMOTING",
    "ROLLED_BACK",
    "Facts",
    "Phase",
    "Stage",
    "advance",
    "seconds_left",
]
