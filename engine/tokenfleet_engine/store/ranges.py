"""Which bytes of a file are there: sorted intervals that neither touch nor overlap. Arithmetic only."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Half-open intervals of one file."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        if start >= end:
            return
        first = bisect_left(self._ends, start)  # the first one that ends at `start` or behind it
        last = bisect_right(self._starts, end)  # the first one that begins behind `end`
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def total(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def missing(self, size: int, *, at_most: int) -> list[tuple[int, int]]:
        """What a file of `size` bytes lacks, in pieces of at most `at_most` bytes."""
        pieces = []
        begin = 0
        for start, end in (*self, (size, size)):
            stop = min(start, size)
            pieces += [(at, min(at + at_most, stop)) for at in range(begin, stop, at_most)]
            begin = max(begin, end)
        return pieces
