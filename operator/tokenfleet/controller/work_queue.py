"""Which LLMDeployments and LLMRouters are to be reconciled: each at most once in line, and never by two workers at a time.

What comes in while a key is being worked on puts it in line once more afterwards, so the last change is always seen. A key
that failed comes back by itself, after a wait that doubles with each failure; one that writes again and again without ever
settling (someone else undoes our writes) has to wait between its turns, whatever comes in.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from tokenfleet.controller.store import Key

RETRY_FIRST_SECONDS: Final = 0.1
RETRY_CAP_SECONDS: Final = 60.0
UNSETTLED_TURNS: Final = 5
"""Turns in a row that may write before the key is slowed down; a rollout takes one or two."""
HOLD_CAP_SECONDS: Final = 60.0


class Timer(Protocol):
    def cancel(self) -> None: ...


class WorkQueue:
    """`add` from anywhere in the loop; each `get` must be followed by one `done`."""

    def __init__(
        self,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._call_later = call_later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._jitter = jitter
        self._line: deque[Key] = deque()
        self._waiting: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, Timer] = {}
        self._held: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._unsettled: dict[Key, int] = {}
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        """Keys in line."""
        return len(self._line)

    @property
    def idle(self) -> bool:
        """Whether nobody is in line or at work; timers do not count."""
        return not self._line and not self._running

    def add(self, key: Key) -> None:
        if key in self._running or key in self._held:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._line.append(key)
            self._ready.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Add the key after a while; a timer that it already has is replaced, but for one that holds it back."""
        if key not in self._held:
            self._arm(key, seconds)

    async def get(self) -> Key:
        while not self._line:
            self._ready.clear()
            await self._ready.wait()
        key = self._line.popleft()
        self._waiting.discard(key)
        self._running.add(key)
        return key

    def done(self, key: Key, *, wrote: bool = False, again_after: float | None = None) -> None:
        """The turn went well. `wrote`: it had to change a child. `again_after`: come back though nothing happens."""
        self._failures.pop(key, None)
        before = self._unsettled.pop(key, 0)
        turns = before + 1 if wrote else 0
        if turns:
            self._unsettled[key] = turns
        self._running.discard(key)
        if turns > UNSETTLED_TURNS:
            self._hold(key, min(HOLD_CAP_SECONDS, 2.0 ** (turns - UNSETTLED_TURNS)))
            return
        if again_after is not None:
            self.add_later(key, self._spread(again_after))
        self._return(key)

    def failed(self, key: Key) -> None:
        """The turn did not come to its end: the key comes back by itself."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._running.discard(key)
        self.add_later(key, self._spread(min(RETRY_CAP_SECONDS, RETRY_FIRST_SECONDS * 2 ** min(failures - 1, 20))))
        self._return(key)

    def forget(self, key: Key) -> None:
        """It is gone: no timer of its needs to go off."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._failures.pop(key, None)
        self._unsettled.pop(key, None)
        if key in self._held:
            self._held.discard(key)
            self._again.discard(key)

    def _hold(self, key: Key, seconds: float) -> None:
        self._held.add(key)
        self._arm(key, self._spread(seconds))

    def _arm(self, key: Key, seconds: float) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._timers[key] = self._call_later(seconds, lambda: self._due(key))

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._held.discard(key)
        self._again.discard(key)
        self.add(key)

    def _return(self, key: Key) -> None:
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _spread(self, seconds: float) -> float:
        return seconds * (0.5 + self._jitter())
