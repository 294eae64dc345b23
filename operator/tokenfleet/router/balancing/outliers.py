"""When a replica that fails is left alone, and for how long: counts outcomes, decides nothing about the others.

A failure is a connection that could not be made or broke, an answer 502, 503 or 504 (but not that of a replica that is draining
or full), or silence. What a client gets wrong, 4xx and 429, is none. A few in a row, or half of the latest, eject the replica:
for a while that doubles from time to time. It comes back on probation, where its first outcome decides, and only a row of
successes makes the next time shorter again. replicas.py holds the cap on how many may be ejected at once.
"""

from typing import Final

CONSECUTIVE: Final = 3
"""So many failures in a row eject."""
RATE: Final = 0.5
"""Or this share of failures among the latest outcomes."""
MEMORY: Final = 0.1
"""What the newest outcome weighs in that share: it looks back on some 10 to 20."""
BASE_SECONDS: Final = 5.0
CAP_SECONDS: Final = 300.0
STEADY: Final = 20
"""So many successes in a row halve the next ejection."""
_MOST: Final = 6
"""Doublings, which reach the cap."""
_FORGIVEN: Final = 0.01


class Conduct:
    """How one replica has done of late."""

    __slots__ = ("_ejections", "_failures", "_rate", "_steady", "until")

    def __init__(self) -> None:
        self._failures = 0
        self._rate = 0.0
        self._ejections = 0
        self._steady = 0
        self.until = 0.0
        """When its ejection ends; 0: it is not ejected."""

    def failed(self) -> bool:
        """Whether it has earned to be ejected. What fails while it is ejected was begun before, and adds nothing."""
        if self.until:
            return False
        self._steady = 0
        self._failures += 1
        self._rate += MEMORY * (1 - self._rate)
        return self._failures >= CONSECUTIVE or self._rate >= RATE

    def succeeded(self) -> None:
        self._failures = 0
        if self._rate:
            self._rate *= 1 - MEMORY
            if self._rate < _FORGIVEN:
                self._rate = 0.0
        if self._ejections:
            self._steady += 1
            if self._steady == STEADY:
                self._steady = 0
                self._ejections -= 1

    def eject(self, now: float) -> float:
        """Begin an ejection; gives back its seconds."""
        seconds = min(CAP_SECONDS, BASE_SECONDS * (1 << self._ejections))
        self._ejections = min(_MOST, self._ejections + 1)
        self._steady = 0
        self.until = now + seconds
        return seconds

    def readmit(self) -> None:
        """End it: from now on it is on probation."""
        self.until = 0.0
        self._failures = CONSECUTIVE - 1
        self._rate = 0.0
