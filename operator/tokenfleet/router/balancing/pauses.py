"""When a replica is left alone for a moment, by one sign: it could not be reached, was lost, drains, or has no room.

An ejection (outliers.py) answers to many failures and may not leave too few others; a pause answers to one, and spares the
requests that come next from finding out for themselves. A replica that could not be reached gets nothing for a moment that
doubles from time to time, then one request, which shows whether it is there again. One that said that it is full gets no more
than it has, and soon a little more. Nobody who waits asks such a replica again and again, and none is left alone for good.
"""

from typing import Final

FIRST_SECONDS: Final = 0.25
CAP_SECONDS: Final = 5.0
FULL_SECONDS: Final = 0.25
"""How long a full replica gets no more than it has, and then how often a little more."""
_DOUBLINGS: Final = 5


class Pause:
    """Of one replica."""

    __slots__ = ("_drains", "_due", "_most", "_row", "_step")

    def __init__(self) -> None:
        self._most: int | None = None
        """Requests that it may have; None: as many as its limit says."""
        self._due = 0.0
        """When that changes; 0: only by what happens."""
        self._drains = False
        """It can be reached, but takes nothing."""
        self._row = 0
        """Pauses without a good sign in between."""
        self._step = 0
        """0: it cannot be reached. Otherwise how many requests more it may have next time, since it was full."""

    @property
    def on(self) -> bool:
        return self._most is not None

    @property
    def in_doubt(self) -> bool:
        """Whether it is there at all is not known."""
        return self._most is not None and not self._step

    @property
    def passes(self) -> bool:
        """Time will change something."""
        return self._due > 0

    def begin(self, now: float, *, drains: bool = False) -> None:
        """It cannot be reached, or (drains) takes nothing."""
        if self._most == 0 and not self._step:
            return
        self._most, self._step, self._drains = 0, 0, drains
        self._due = now + min(CAP_SECONDS, FIRST_SECONDS * (1 << self._row))
        self._row = min(_DOUBLINGS, self._row + 1)

    def fill(self, in_flight: int, now: float) -> None:
        """It has room for no more than it has."""
        self._most, self._step, self._due = in_flight, 1, now + FULL_SECONDS

    def end(self, *, answered: bool) -> bool:
        """It has been reached, or has even taken a request. Whether that ends anything."""
        if self._most is None or self._step or (self._drains and not answered):
            return False
        self._most, self._due, self._row = None, 0.0, 0
        return True

    def look(self, now: float, in_flight: int, limit: int) -> None:
        """Take notice of the time."""
        if self._most is None or not self._due or now < self._due:
            return
        if self._step:
            self._most += self._step
            self._step *= 2
            self._due = now + FULL_SECONDS
            if self._most >= limit:
                self._most, self._due = None, 0.0
        else:
            self._most, self._due = in_flight + 1, 0.0

    def room(self, room: int) -> int:
        """What it may have, of what it could."""
        return room if self._most is None else min(room, self._most)
