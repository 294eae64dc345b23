"""How far a fetch is, as a line every two seconds: for people, and at its end for the controller.

The rate is that of the last twenty seconds, so that the rest is estimated by how things go now.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tokenfleet import contract

INTERVAL: Final = 2.0
_WINDOW: Final = 20.0


class Progress:
    def __init__(self, *, total: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = done
        self._before = done
        self._clock = clock
        self._began = clock()
        self._seen: deque[tuple[float, int]] = deque([(self._began, done)])

    def add(self, count: int) -> None:
        """Negative where bytes turned out to be wrong."""
        self.done += count

    def line(self, what: str) -> str:
        """What to say now. To be asked for at regular intervals: the rate is measured from one to the next."""
        now = self._clock()
        self._seen.append((now, self.done))
        while len(self._seen) > 2 and self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()
        (since, before), elapsed = self._seen[0], now - self._began
        rate = max(0.0, (self.done - before) / (now - since)) if now > since else 0.0
        left = None if rate <= 0 else round((self.total - self.done) / rate)
        percent = 100 * self.done // self.total if self.total else 100
        return (
            f"{what}: {readable(self.done)} of {readable(self.total)} ({percent}%), {readable(rate)}/s, "
            f"{duration(elapsed)} elapsed{'' if left is None else f', {duration(left)} left'} "
            f"{contract.progress(done=self.done, total=self.total, left=left)}"
        )

    def summary(self) -> str:
        elapsed = self._clock() - self._began
        fetched = self.done - self._before
        return f"{readable(fetched)} fetched in {duration(elapsed)} ({readable(fetched / max(elapsed, 0.001))}/s)"


def readable(count: float) -> str:
    """Bytes as people write them, in powers of ten as the stores' own pages have them: 141.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
