"""What one LLMDeployment costs as time passes, and what for: minute by minute of the last hour. Pure; time comes with a call.

Between two looks the engines and whether a request is in flight count as they were at the first one. Whoever begins anew
knows nothing of what was before, so its first figures speak of less than an hour.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from tokenfleet.controller.signals.windows import Counted
from tokenfleet.planning.cost import Rates, Use, cost_of

HOUR: Final = 3600.0
_MINUTE: Final = 60.0


@dataclass(slots=True)
class _Minute:
    begins: float
    cost: float = 0.0
    idle_cost: float = 0.0
    counted: Counted = field(default_factory=Counted)


class Meter:
    """`advance` before each change of `hourly` and `busy`: what was holds until now."""

    __slots__ = ("_at", "_minutes", "_seen", "busy", "hourly")

    def __init__(self, now: float) -> None:
        """now: seconds, of a clock that does not go back."""
        self._at = now
        self._minutes: deque[_Minute] = deque()
        self._seen: Counted | None = None
        self.hourly = 0.0
        """What its engines cost in an hour, as they are."""
        self.busy = False
        """Whether a request is in flight."""

    def advance(self, now: float) -> float:
        """Time has passed; returns what that has cost."""
        began, at = self._at, max(self._at, now - HOUR)
        while at < now:
            end = min(now, (at // _MINUTE + 1) * _MINUTE)
            minute, cost = self._minute(at), self.hourly * (end - at) / HOUR
            minute.cost += cost
            minute.idle_cost += 0.0 if self.busy else cost
            at = end
        self._at = max(began, now)
        while self._minutes and self._minutes[0].begins < now - HOUR:
            self._minutes.popleft()
        return self.hourly * (self._at - began) / HOUR

    def count(self, total: Counted, now: float) -> Counted:
        """So much was answered in all by now; returns what is new. The first total is what there was before."""
        new = total.since(self._seen) if self._seen is not None else Counted()
        self._seen = total
        if any(new):
            minute = self._minute(now)
            minute.counted = Counted.sum_of((minute.counted, new))
        return new

    def rates(self) -> Rates:
        """Of the last hour, as far as it was seen."""
        counted = Counted.sum_of(minute.counted for minute in self._minutes)
        return cost_of(
            Use(
                cost=sum(minute.cost for minute in self._minutes),
                idle_cost=sum(minute.idle_cost for minute in self._minutes),
                requests=counted.requests,
                prompt_tokens=counted.prompt_tokens,
                completion_tokens=counted.completion_tokens,
            )
        )

    def _minute(self, at: float) -> _Minute:
        begins = at // _MINUTE * _MINUTE
        if not self._minutes or self._minutes[-1].begins < begins:
            self._minutes.append(_Minute(begins))
        return self._minutes[-1]
