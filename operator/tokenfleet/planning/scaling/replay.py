"""What a policy would have done with a recorded load.

The load is as it was recorded: replicas that the policy would have had, and the recorded fleet had not, serve nobody here. So
the replay tells when the policy would have asked for more and for fewer, and why; how much shorter the queue would have been it
cannot tell.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from tokenfleet.planning.scaling.policy import Policy
from tokenfleet.planning.scaling.scaler import Scaler
from tokenfleet.planning.scaling.signal import Decision, Signal
from tokenfleet.planning.scaling.trace import Line


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the wanted count."""

    time: float
    before: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Point:
    """For a plot: what was known from a time on, and what was wanted."""

    time: float
    signal: Signal | None
    wanted: int


@dataclass(slots=True)
class Replay:
    """All that came of it."""

    began: float
    ended: float
    changes: list[Change] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    wanted_seconds: float = 0.0
    """Replica-seconds that the policy asked for."""
    recorded_seconds: float = 0.0
    """Those that were there, as far as was known: serving and starting."""


def replay(policy: Policy, lines: Iterable[Line], *, desired: int | None = None) -> Replay:
    """desired: the count at the beginning; None: as many as were there, or minReplicas."""
    told = list(lines)
    first = told[0]
    if desired is None:
        there = first.signal.ready + first.signal.starting + first.signal.pending if first.signal else 0
        desired = min(max(there, policy.min_replicas), policy.max_replicas)
    scaler = Scaler(policy, desired=desired, now=first.time)
    result = Replay(first.time, told[-1].time)
    for time, until, signal in _looks(scaler, told):
        before = scaler.desired
        decision = scaler.decide(signal, now=time)
        if decision.desired != before:
            result.changes.append(Change(time, before, decision))
        result.points.append(Point(time, signal, decision.desired))
        end = min(until, time + (scaler.next_look or until))
        result.wanted_seconds += decision.desired * (end - time)
        if signal is not None:
            result.recorded_seconds += (signal.ready + signal.starting) * (end - time)
    return result


def _looks(scaler: Scaler, told: list[Line]) -> Iterator[tuple[float, float, Signal | None]]:
    """When to decide: at each line, and between two where time alone may decide. With the time of the next line."""
    ends = [*(line.time for line in told[1:]), told[-1].time]
    for line, until in zip(told, ends, strict=True):
        now, signal = line.time, line.signal
        yield now, until, signal
        while (look := scaler.next_look) is not None and now + look < until:
            now += look
            yield now, until, _aged(signal, now - line.time)


def _aged(signal: Signal | None, seconds: float) -> Signal | None:
    """Silence makes nothing older but the last request."""
    if signal is None or signal.idle_seconds is None or signal.load:
        return signal
    return replace(signal, idle_seconds=signal.idle_seconds + seconds)
