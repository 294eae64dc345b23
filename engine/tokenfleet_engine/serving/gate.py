"""Whether one more request may come in: the engine's load against its bounds, a drain, a sleep.

Looks and decides at once, without an await, so that nobody slips in between the look and the count. A refused request has not
been begun, and its 503 says when to try again; that of a drain also tells routers to forget this replica.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.serving.answers import CLOSE, Header
from tokenfleet_engine.serving.bounds import Bounds
from tokenfleet_engine.serving.load import Figures, Load, assess, explain, retry_after
from tokenfleet_engine.serving.requests import Requests
from tokenfleet_engine.serving.signals import Signals
from tokenfleet_engine.serving.sleep import RETRY_AFTER_SECONDS, Sleep

DRAINING_RETRY_SECONDS: Final = 1
"""Another replica may take the request at once, but HTTP knows no zero that all clients honour."""
_GOING_AWAY: Final = 1012
_TRY_AGAIN_LATER: Final = 1013
"""Close codes of WebSockets."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason` is the metric's label."""

    reason: str
    message: str
    retry_after: int
    headers: tuple[Header, ...] = ()
    close_code: int = _TRY_AGAIN_LATER


_DRAINING: Final = Refused(
    "draining", "This replica is going away. Send the request again: another one takes it.", DRAINING_RETRY_SECONDS,
    ((contract.HEADER_DRAINING.encode(), b"true"), CLOSE), _GOING_AWAY,
)  # fmt: skip
_SLEEPING: Final = Refused(
    "sleeping", "This replica sleeps and has to be woken. Another one may take the request.", RETRY_AFTER_SECONDS
)


class Gate:
    """`bounds` may be set once the engine is known."""

    def __init__(self, requests: Requests, signals: Signals, sleep: Sleep, *, clock: Callable[[], float]) -> None:
        self.bounds = Bounds()
        self._requests = requests
        self._signals = signals
        self._sleep = sleep
        self._clock = clock
        self._draining_since: float | None = None

    @property
    def draining_seconds(self) -> float | None:
        """For how long; None where it does not drain."""
        return None if self._draining_since is None else self._clock() - self._draining_since

    def drain(self) -> None:
        """From now on nobody gets in. The first call counts."""
        if self._draining_since is None:
            self._draining_since = self._clock()

    def figures(self) -> Figures:
        return self._signals.figures(self._requests.in_flight)

    def peek(self) -> Figures:
        """The same for another thread."""
        return self._signals.peek(self._requests.in_flight)

    def load(self, figures: Figures) -> Load:
        return assess(figures, self.bounds)

    def refusal(self) -> Refused | None:
        if self._draining_since is not None:
            return _DRAINING
        if self._sleep.sleeping:
            return _SLEEPING
        figures = self.figures()
        load = self.load(figures)
        if not load.full:
            return None
        seconds = retry_after(figures, ended_per_second=self._requests.ended.per_second(self._clock()))
        message = f"{explain(load, figures, self.bounds)} Try again in {seconds} s, or another replica."
        return Refused(load.bound, message, seconds)
