"""The two figures that status shows of the load, a new pair at most each ten seconds: what never rests has no place there.

A reconcile that runs for another cause finds the same figures until that time is over, and an LLMDeployment whose load stays as
it is has no reconcile at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tokenfleet.controller.observed import Figures, Load
from tokenfleet.controller.store import Key

SECONDS: Final = 10.0
UNKNOWN: Final = Figures(queue_depth=None, in_flight=None)
EARLY_SECONDS: Final = 30.0
"""After the start: until then what is not known is not told to be so, and what status shows stays."""


class Timer(Protocol):
    def cancel(self) -> None: ...


@dataclass(slots=True)
class _Shown:
    figures: Figures
    at: float


class Display:
    """Of all LLMDeployments."""

    def __init__(
        self,
        load: Callable[[Key], Load | None],
        *,
        due: Callable[[Key], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        """due: asks for a reconcile, since there is something new to show."""
        self._load, self._due, self._clock, self._call_later = load, due, clock, call_later
        self._shown: dict[Key, _Shown] = {}
        self._timers: dict[Key, Timer] = {}
        self._began = clock()

    def of(self, key: Key) -> Figures | None:
        """What to show. None: what is shown already, since nothing is known yet."""
        now, shown = self._clock(), self._shown.get(key)
        if shown is not None and now - shown.at < SECONDS:
            return shown.figures
        found = self._read(key)
        if found == UNKNOWN and shown is None and now - self._began < EARLY_SECONDS:
            return None
        if shown is None or shown.figures != found:
            self._shown[key] = _Shown(found, now)
        return found

    def heard(self, key: Key) -> None:
        """Its load may be another now."""
        if key not in self._timers:
            shown = self._shown.get(key)
            wait = max(0.0, shown.at + SECONDS - self._clock()) if shown is not None else 0.0
            self._timers[key] = self._call_later(wait, lambda: self._look(key))

    def forget(self, key: Key) -> None:
        self._shown.pop(key, None)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _look(self, key: Key) -> None:
        del self._timers[key]
        shown = self._shown.get(key)
        if shown is None or shown.figures != self._read(key):
            self._due(key)

    def _read(self, key: Key) -> Figures:
        load = self._load(key)
        if load is None or not load.complete:
            return UNKNOWN
        return Figures(queue_depth=load.waiting, in_flight=sum(load.in_flight.values()))
