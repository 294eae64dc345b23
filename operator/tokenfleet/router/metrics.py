"""What the router counts, as plain numbers while requests run; exposition.py makes them into Prometheus' text.

Labels are bounded: codes are those of HTTP, reasons those of rejections.py and the few below, replicas those that exist.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

RELAYED: Final = "relayed"
"""A replica's answer reached the client whole."""
TRUNCATED: Final = "truncated"
"""A replica was lost in the middle of its answer."""
CLIENT_GONE: Final = "client_gone"
CLIENT_STALLED: Final = "client_stalled"
SHUTDOWN: Final = "shutdown"
"""It outlasted this router's drain, and was cut."""
ANSWERED: Final = "answered"
"""By the router itself: the models."""
CODE_CLIENT_GONE: Final = 499

_EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Histogram:
    """Counts by duration, in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(_EDGES) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_EDGES, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        total, rows = 0, []
        for edge, count in zip((*map(str, _EDGES), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((edge, float(total)))
        return rows


class Metrics:
    """Of one router."""

    __slots__ = ("first_byte", "requests", "retries", "seconds", "watch_failures")

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self.watch_failures: Counter[str] = Counter()
        self.first_byte = Histogram()
        self.seconds = Histogram()
