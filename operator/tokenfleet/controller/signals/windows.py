"""Counts that only grow, made into what happened lately: the answers of the last half minute, by how long they took. Pure.

A router that restarted begins at nought again; what it counted before is kept in the totals, and its window begins anew.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from tokenfleet.controller.signals.report import Track

WINDOW_SECONDS: Final = 30.0
_Snapshot = tuple[float, Track]


class Window:
    """One router's counts of one track, as far as they have to be remembered."""

    __slots__ = ("_seen", "failed", "requests")

    def __init__(self, first: Track, now: float, *, whole: bool) -> None:
        """whole: all that is counted is news; else it was counted before anybody followed."""
        self._seen: deque[_Snapshot] = deque(((now, first),))
        self.requests = first.requests if whole else 0
        """Since this controller follows."""
        self.failed = first.failed if whole else 0

    def add(self, track: Track, now: float) -> None:
        """It counts this now."""
        last = self._seen[-1][1]
        if track.requests < last.requests or track.failed < last.failed:
            self._seen.clear()
            self.requests += track.requests
            self.failed += track.failed
        else:
            self.requests += track.requests - last.requests
            self.failed += track.failed - last.failed
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
