"""Runs the scheduler in time: one step after another while there is work, and every token to the request that waits for it.

A step ends when the timing model says so, counted from when the one before it ended, not from when this process got round to
it: a timer that fires late shortens the next wait. Where the process cannot keep up, and is behind by more than a moment, the
time is given up and the observer is told. Nothing runs while there is nothing to do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from tokenfleet_engine.simulation.choices import Choice, Delta
from tokenfleet_engine.simulation.faults import Faults
from tokenfleet_engine.simulation.scheduler import Scheduler, Step
from tokenfleet_engine.simulation.sequences import Finish, Sequence
from tokenfleet_engine.simulation.timing import Coefficients

CATCH_UP_SECONDS: Final = 0.25


class Observer(Protocol):
    """What the metrics take note of."""

    def stepped(self, step: Step, scheduler: Scheduler, generated: int) -> None: ...
    def first_token(self, sequence: Sequence, now: float) -> None: ...
    def next_token(self, seconds: float) -> None: ...
    def finished(self, sequence: Sequence, now: float) -> None: ...
    def late(self, seconds: float) -> None: ...


class Generation:
    """One request in the engine: its choices, and what of them the client has not been given yet."""

    def __init__(self, choices: list[Choice], *, streamed: bool) -> None:
        self.choices = choices
        self.gone = False
        self._streamed = streamed
        self._left = len(choices)
        self._deltas: list[Delta] = []
        self._news = asyncio.Event()

    @property
    def done(self) -> bool:
        """Everything has been handed out, or nobody is there to take it."""
        return self.gone or (not self._left and not self._deltas)

    async def deltas(self) -> list[Delta]:
        """What has come since the last call: all at once where the answer is not streamed. Empty when the client is gone."""
        await self._news.wait()
        self._news.clear()
        taken, self._deltas = self._deltas, []
        return taken

    def put(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self._left -= delta.finish is not None
        if self._streamed or not self._left:
            self._news.set()

    def leave(self) -> None:
        self.gone = True
        self._deltas.clear()
        self._news.set()


class Engine:
    def __init__(
        self, scheduler: Scheduler, coefficients: Coefficients, *, observer: Observer, clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]], faults: Faults,
    ) -> None:  # fmt: skip
        self._scheduler = scheduler
        self._coefficients = coefficients
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._faults = faults
        self._owners: dict[Sequence, tuple[Generation, Choice]] = {}
        self._work = asyncio.Event()

    async def begin(self, generation: Generation) -> None:
        arrived = self._clock()
        if self._coefficients.request:
            await self._sleep(self._coefficients.request)
        if generation.gone:
            return
        for choice in generation.choices:
            choice.sequence.times.arrived = arrived
            self._owners[choice.sequence] = (generation, choice)
            self._scheduler.add(choice.sequence)
        self._work.set()

    def abort(self, generation: Generation) -> None:
        """The client is gone: what it held is free at once."""
        generation.leave()
        for choice in generation.choices:
            if choice.sequence in self._owners:
                choice.sequence.finish = Finish.ABORT
                self._end(choice.sequence, self._clock())

    async def run(self) -> None:
        due = self._clock()
        while True:
            if not self._scheduler.busy:
                self._work.clear()
                self._observer.stepped(Step(), self._scheduler, 0)
                await self._work.wait()
                due = self._clock()
            due = await self._step(due)

    async def _step(self, began: float) -> float:
        if self._faults.hangs():
            await asyncio.Event().wait()  # for ever: the server answers, and no token comes
        step = self._scheduler.schedule()
        self._admit(step.admitted, began)
        due = began + self._coefficients.seconds(step.work) * self._faults.slowness()
        now = self._clock()
        await self._sleep(max(0.0, due - now))
        if now - due > CATCH_UP_SECONDS:
            self._observer.late(now - due)
            due = now
        self._deliver(step, due)
        return due

    def _admit(self, sequences: Iterable[Sequence], now: float) -> None:
        for sequence in sequences:
            if sequence.times.scheduled is None:
                sequence.times.scheduled = max(now, sequence.times.arrived)

    def _deliver(self, step: Step, now: float) -> None:
        ready = self._scheduler.complete(step)
        for sequence in ready:
            generation, choice = self._owners[sequence]
            delta = choice.advance()
            times = sequence.times
            if sequence.generated == 1:
                times.first = now
                self._observer.first_token(sequence, now)
            else:
                self._observer.next_token(now - times.last)
            times.last = now
            if sequence.finish is not None:
                self._end(sequence, now)
            generation.put(delta)
        self._observer.stepped(step, self._scheduler, len(ready))

    def _end(self, sequence: Sequence, now: float) -> None:
        del self._owners[sequence]
        self._scheduler.finish(sequence)
        self._observer.finished(sequence, now)
