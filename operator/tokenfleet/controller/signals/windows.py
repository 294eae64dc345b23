"""Counts that only grow, made into what happened lately: the answers of the last half minute, by how long they took. Pure.

A router that restarted begins at nought again; what it counted before is kept in the totals, and its window begins anew.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tokenfleet.controller.signals.report import Track

WINDOW_SECONDS: Final = 30.0
_Snapshot = tuple[float, Track]


class Counted(NamedTuple):
    """What only grows."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, track: Track) -> "Counted":
        return cls(track.requests, track.failed, track.prompt_tokens, track.completion_tokens)

    @classmethod
    def sum_of(cls, parts: "Iterable[Counted]") -> "Counted":
        requests = failed = prompt_tokens = completion_tokens = 0
        for part in parts:
            requests += part.requests
            failed += part.failed
            prompt_tokens += part.prompt_tokens
            completion_tokens += part.completion_tokens
        return cls(requests, failed, prompt_tokens, completion_tokens)

    def since(self, before: "Counted") -> "Counted":
        """What came since then; all of it, where the count began anew."""
        new = Counted(
            self.requests - before.requests,
            self.failed - before.failed,
            self.prompt_tokens - before.prompt_tokens,
            self.completion_tokens - before.completion_tokens,
        )
        return new if min(new) >= 0 else self


class Window:
    """One router's counts of one track, as far as they have to be remembered."""

    __slots__ = ("_seen", "counted")

    def __init__(self, first: Track, now: float, *, whole: bool) -> None:
        """whole: all that is counted is news; else it was counted before anybody followed."""
        self._seen: deque[_Snapshot] = deque(((now, first),))
        self.counted = Counted.of(first) if whole else Counted()
        """Since this controller follows."""

    def add(self, track: Track, now: float) -> None:
        """It counts this now."""
        last = self._seen[-1][1]
        if track.requests < last.requests or track.failed < last.failed:
            self._seen.clear()
        self.counted = Counted.sum_of((self.counted, Counted.of(track).since(Counted.of(last))))
        self._seen.append((now, track))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()

    def ttft(self, now: float) -> list[int]:
        """By bucket, of the answers since the window began."""
        return _difference(self._seen[-1][1].ttft, self._baseline(now).ttft)

    def itl(self, now: float) -> list[int]:
        return _difference(self._seen[-1][1].itl, self._baseline(now).itl)

    def _baseline(self, now: float) -> Track:
        """The counts when the window began: the newest that are older than it, or else the first that there are."""
        found = self._seen[0][1]
        for since, track in self._seen:
            if since > now - WINDOW_SECONDS:
                break
            found = track
        return found


def _difference(last: Sequence[int], first: Sequence[int]) -> list[int]:
    return [max(0, after - before) for after, before in zip(last, first, strict=True)]


def percentile(bounds: Sequence[float], histograms: Iterable[Sequence[int]], *, share: float = 0.95) -> float | None:
    """In seconds, as Prometheus' histogram_quantile has it: in a straight line within a bucket, and never above the last bound.
    None where nothing was counted."""
    counts = [sum(column) for column in zip(*histograms, strict=True)] or [0]
    rank, below = share * sum(counts), 0
    if not rank:
        return None
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return float(low + (bounds[index] - low) * (rank - below) / count)
        below += count
    return float(bounds[-1])
