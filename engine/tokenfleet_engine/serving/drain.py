"""Takes an engine out of service from beside it: tell its admission to refuse, then wait until nothing is in flight.

Used by the pod's preStop hook (`tokenfleet-engine drain`) and by `serve` when SIGTERM comes first. The deadline counts from
when the drain began, not from this call, so the two never wait one after the other. An engine that does not answer has
nothing to lose: the wait ends. After the last request it stays for a moment, since a router may be about to send one more;
that one gets its 503 from us and goes elsewhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet_engine.serving.local import NotServing, ask

POLL_SECONDS: Final = 0.25
SETTLE_SECONDS: Final = 1.5
REPORT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 5.0
"""For one answer of the engine: its loop may be busy with a long prompt."""
SILENCE_SECONDS: Final = 30.0
"""An engine that listens and does not answer for this long is taken for dead."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine says of itself. `draining_seconds` is how long ago its drain began."""

    in_flight: int
    draining_seconds: float = 0.0


class Engine(Protocol):
    """Raise NotServing, or TimeoutError where it listens and does not answer in time."""

    def drain(self) -> Load: ...
    def load(self) -> Load: ...


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The engine in this pod, by its loopback port."""

    port: int

    def drain(self) -> Load:
        return self._ask("POST", contract.PATH_ENGINE_DRAIN)

    def load(self) -> Load:
        return self._ask("GET", contract.PATH_ENGINE_LOAD)

    def _ask(self, method: str, path: str) -> Load:
        answer = ask(self.port, method, path, seconds=ANSWER_SECONDS).content
        try:
            return Load(in_flight=int(answer["in_flight"]), draining_seconds=float(answer.get("draining_seconds", 0.0)))
        except (ValueError, KeyError, TypeError) as error:
            raise NotServing(f"the answer to {path} is not an engine's") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One goodbye. `gone` ends the wait early: nobody is left to wait for."""

    engine: Engine
    timeout: float
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    gone: Callable[[], bool] = lambda: False

    def run(self) -> bool:
        """True when nothing is in flight any more, False when the timeout came first."""
        began = self.clock()
        load = self._ask(self.engine.drain, deadline=began + self.timeout)
        if load is None:
            self.say("drain: the engine does not serve, so nothing is in flight")
            return True
        deadline = began + self.timeout - load.draining_seconds
        left = max(0.0, deadline - self.clock())
        self.say(f"drain: refusing new requests; {load.in_flight} in flight, at most {left:.0f} s to finish")
        if not self._wait(load, deadline=deadline):
            return False
        self.sleep(max(0.0, min(SETTLE_SECONDS, deadline - self.clock())))
        self.say(f"drain: nothing in flight after {self.clock() - began:.1f} s")
        return True

    def _wait(self, load: Load | None, *, deadline: float) -> bool:
        reported = self.clock()
        while load is not None and load.in_flight > 0:
            if self.clock() >= deadline:
                self.say(f"drain: the time is over, {load.in_flight} requests are cut off")
                return False
            if self.clock() - reported >= REPORT_SECONDS:
                reported = self.clock()
                self.say(f"drain: {load.in_flight} in flight, {deadline - reported:.0f} s left")
            self.sleep(POLL_SECONDS)
            load = self._ask(self.engine.load, deadline=deadline)
        return True

    def _ask(self, question: Callable[[], Load], *, deadline: float) -> Load | None:
        """None when the engine is gone. Asks again while it is only busy."""
        silent_until = min(deadline, self.clock() + SILENCE_SECONDS)
        while not self.gone():
            try:
                return question()
            except NotServing:
                return None
            except TimeoutError:
                if self.clock() >= silent_until:
                    self.say("drain: the engine listens and does not answer; it is taken for dead")
                    return None
        return None
