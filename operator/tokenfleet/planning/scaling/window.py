"""The highest value of the last seconds, where each value holds until the next one is told.

A router that has nothing new says nothing, so a value may be minutes old and still be true: it counts from when it was told
until it was replaced, not for a moment.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

_ROUNDING: Final = 1e-6
"""Seconds: who looks exactly when a window ends shall find it ended."""


@dataclass(slots=True)
class _Held:
    value: float
    end: float | None = None
    """None: it still holds."""


class Highest:
    """A sliding maximum. Times must not go back."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        """How far it looks back; may change."""
        self._held: deque[_Held] = deque()
        """Falling in value, rising in end: what a later and higher value outshone is not kept."""

    def __len__(self) -> int:
        return len(self._held)

    def push(self, value: float, now: float) -> None:
        if self._held:
            self._held[-1].end = now
        while self._held and self._held[-1].value <= value:
            self._held.pop()
        self._held.append(_Held(value))
        self.highest(now)

    def restart(self, value: float, now: float) -> None:
        """Forget all that was before."""
        self._held.clear()
        self.push(value, now)

    def highest(self, now: float) -> float:
        """There must have been a push. What is older than the window is forgotten."""
        while (end := self._held[0].end) is not None and end + self.seconds <= now + _ROUNDING:
            self._held.popleft()
        return self._held[0].value

    def settled(self, now: float, *, within: float) -> bool:
        """Whether it will stay as it is for a while, if nothing new comes."""
        at = self.changes_at()
        return at is None or at > now + within

    def changes_at(self) -> float | None:
        """When the highest becomes another one, if nothing new comes; None: never."""
        end = self._held[0].end
        return None if end is None else end + self.seconds
