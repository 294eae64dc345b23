"""Which concurrency to try next: doubling until a promise breaks, then halving what is between. Pure, and without a memory.

Latency grows with concurrency, but measurements do not always: a neighbour's minute of work breaks a promise that would be
kept. So nothing is believed from one try. What would be the answer, and the smallest one that failed above it, are tried
again, and where two tries contradict each other a third decides. Only then is it over; a try that was too close to call
counts as a failure.

Where twice as many requests at once bring no more tokens, the engine's hardware or its maxNumSeqs is used up: everything beyond
only waits. The search ends there, and the smaller of the two is the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tokenfleet.planning.tuning.probe import Probe

TRIES: Final = 3
"""Of one concurrency at most: a third decides between two that contradict each other."""

Why = Literal["limit", "throughput", "most", "engine", "none"]
"""Why the search is over. limit: the next one breaks a promise. throughput: more bring no more tokens. most: no more are to be
tried. engine: it runs no more at once. none: not even one request at a time keeps the promise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched."""

    start: int = 8
    most: int = 256
    gain: float = 0.05
    """By so much, relatively, twice as many requests at once must bring more tokens; 0: they need not."""
    precision: float = 0.0
    """The answer may be smaller than the largest by this, relatively."""


@dataclass(frozen=True, slots=True)
class Try:
    """Next, so many at once."""

    concurrency: int
    confirms: bool = False
    """It has been tried before."""


@dataclass(frozen=True, slots=True)
class Found:
    """It is over."""

    concurrency: int | None
    """None: not even one request at a time keeps the promise."""
    why: Why


def next_step(search: Search, probes: Sequence[Probe]) -> Try | Found:
    """From all tries so far, oldest first."""
    wanted, search = search.most, replace(search, most=_bound(search, probes))
    standings = _standings(search, probes)
    low = max((each for each, kept in standings.items() if kept), default=0)
    high = min((each for each, kept in standings.items() if not kept and each > low), default=None)
    used_up = _used_up(search, probes, standings, low)
    if used_up:
        return _settled(probes, used_up) or Found(used_up, "throughput")
    if high is None:
        if low >= search.most:
            return _settled(probes, low) or Found(low, "most" if search.most == wanted else "engine")
        return Try(min(2 * low if low else search.start, search.most))
    if high - low > max(1, search.precision * high):
        return Try((low + high) // 2)
    again = (_settled(probes, low) if low else None) or _settled(probes, high)
    return again or (Found(low, "limit") if low else Found(None, "none"))


def _bound(search: Search, probes: Sequence[Probe]) -> int:
    """More than an engine runs at once it only queues: to try them says nothing about a larger batch."""
    return max(1, min([search.most, *(probe.running for probe in probes if probe.running is not None)]))


def _standings(search: Search, probes: Sequence[Probe]) -> dict[int, bool]:
    """Whether each concurrency keeps the promise, by most of its tries, and by the first where they are undecided."""
    tried: dict[int, list[bool]] = {}
    for probe in probes:
        if probe.concurrency <= search.most:
            tried.setdefault(probe.concurrency, []).append(probe.verdict == "met")
    return {each: kept[0] if 2 * sum(kept) == len(kept) else 2 * sum(kept) > len(kept) for each, kept in tried.items()}


def _settled(probes: Sequence[Probe], concurrency: int) -> Try | None:
    """Another try of it, where there is none that agrees with the first."""
    kept = [probe.verdict == "met" for probe in probes if probe.concurrency == concurrency]
    if len(kept) < TRIES and max(kept.count(True), kept.count(False)) < 2:
        return Try(concurrency, confirms=True)
    return None


def _used_up(search: Search, probes: Sequence[Probe], standings: Mapping[int, bool], low: int) -> int | None:
    """Half of what keeps the promise, where that brings as many tokens."""
    half = low // 2
    if low % 2 or not search.gain or not standings.get(half):
        return None
    few, many = (max(probe.tokens_per_second for probe in probes if probe.concurrency == each) for each in (half, low))
    return half if many < few * (1 + search.gain) else None
