"""A fleet in the small: requests, a queue with a deadline, replicas that take a while to start, and a rule for their number.

Time goes in steps of a tenth of a second. A replica's requests all get tokens at one speed, which falls with their number, as
in an engine that batches; so it is enough to keep, for each replica, the tokens that a request would have had since the start,
and for each request the count at which it is done. The same replicas, queue and goodbyes are there for every rule, so that
rules are compared and nothing else.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from tokenfleet.planning.scaling.policy import SLO_WINDOW_SECONDS
from tokenfleet.planning.scaling.signal import Signal

STEP_SECONDS: Final = 0.1
_STEPS_PER_SECOND: Final = round(1 / STEP_SECONDS)
_SAMPLE_SECONDS: Final = 10

Rule = Callable[[float, Signal], int]
"""Asked each second, with the time and what there is: how many replicas there should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a replica is like. The defaults are in the range of an 8B model on one current GPU."""

    places: int = 32
    """Requests that it takes at once."""
    start_seconds: float = 60.0
    prefill_seconds: float = 0.15
    token_seconds: float = 0.010
    """Between two tokens of a request that is alone."""
    token_seconds_each: float = 0.0004
    """And so much more for every request beside it."""

    def speed(self, running: int) -> float:
        """Tokens a second, of each of so many requests."""
        return 1 / (self.token_seconds + self.token_seconds_each * running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Of the router."""

    depth: int = 512
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Moment:
    """What a plot shows."""

    at: float
    waiting: int
    in_flight: int
    wanted: int
    serving: int


@dataclass(slots=True)
class Outcome:
    """What users and whoever pays for the replicas saw."""

    promise_seconds: float
    kept: int = 0
    late: int = 0
    refused: int = 0
    """The queue was full, or the request's time in it over."""
    replica_seconds: float = 0.0
    changes: int = 0
    moments: list[Moment] = field(default_factory=list)

    @property
    def attainment(self) -> float:
        """The part of all requests whose first token came in time."""
        total = self.kept + self.late + self.refused
        return self.kept / total if total else 1.0

    @property
    def replica_hours(self) -> float:
        return self.replica_seconds / 3600


@dataclass(slots=True)
class _Replica:
    ready_at: float
    leaving: bool = False
    tokens: float = 0.0
    """That a request which runs from the start on would have had."""
    ends: list[float] = field(default_factory=list)
    """A heap: the count of tokens at which each request is done."""


class Fleet:
    """The state of one run."""

    def __init__(self, engine: Engine, queue: Queue, *, replicas: int, promise_seconds: float) -> None:
        self._engine, self._queue = engine, queue
        self._replicas = [_Replica(0.0) for _ in range(replicas)]
        self._waiting: deque[Request] = deque()
        self._first_tokens: deque[tuple[float, float]] = deque()
        self._busy_at: float | None = None
        self._wanted = replicas
        self.outcome = Outcome(promise_seconds)

    def arrive(self, request: Request) -> None:
        self._busy_at = request.at
        if len(self._waiting) >= self._queue.depth:
            self.outcome.refused += 1
        else:
            self._waiting.append(request)

    def step(self, now: float) -> None:
        """Tokens, ends, goodbyes, the queue."""
        for replica in self._replicas:
            if replica.ends:
                self._busy_at = now
                replica.tokens += STEP_SECONDS * self._engine.speed(len(replica.ends))
                while replica.ends and replica.ends[0] <= replica.tokens:
                    heapq.heappop(replica.ends)
        if any(replica.leaving and not replica.ends for replica in self._replicas):
            self._replicas = [replica for replica in self._replicas if replica.ends or not replica.leaving]
        self._give(now)
        self.outcome.replica_seconds += STEP_SECONDS * len(self._replicas)

    def signal(self, now: float) -> Signal:
        while self._first_tokens and self._first_tokens[0][0] < now - SLO_WINDOW_SECONDS:
            self._first_tokens.popleft()
        staying = [replica for replica in self._replicas if not replica.leaving]
        ready = sum(replica.ready_at <= now for replica in staying)
        return Signal(
            waiting=len(self._waiting),
            in_flight=sum(len(replica.ends) for replica in self._replicas),
            ready=ready,
            starting=len(staying) - ready,
            idle_seconds=None if self._busy_at is None else now - self._busy_at,
            ttft_p95=_percentile([took for _, took in self._first_tokens], 0.95),
        )

    def scale(self, wanted: int, now: float) -> None:
        """A goodbye is taken back before a new replica starts; those that do not serve yet, and the least busy, go first."""
        self.outcome.changes += wanted != self._wanted
        self._wanted = wanted
        staying = [replica for replica in self._replicas if not replica.leaving]
        for replica in self._replicas:
            if replica.leaving and len(staying) < wanted:
                replica.leaving = False
                staying.append(replica)
        for _ in range(wanted - len(staying)):
            self._replicas.append(_Replica(now + self._engine.start_seconds))
        if len(staying) > wanted:
            staying.sort(key=lambda replica: (replica.ready_at <= now, len(replica.ends)))
            for replica in staying[: len(staying) - wanted]:
                replica.leaving = True

    def sample(self, now: float) -> None:
        seen = self.signal(now)
        self.outcome.moments.append(Moment(now, seen.waiting, seen.in_flight, self._wanted, seen.ready))

    def _give(self, now: float) -> None:
        while self._waiting and self._waiting[0].at < now - self._queue.timeout_seconds:
            self._waiting.popleft()
            self.outcome.refused += 1
        if not self._waiting:
            return
        takers = [
            (len(replica.ends), number)
            for number, replica in enumerate(self._replicas)
            if replica.ready_at <= now and not replica.leaving and len(replica.ends) < self._engine.places
        ]
        heapq.heapify(takers)
        while self._waiting and takers:
            running, number = takers[0]
            self._begin(self._waiting.popleft(), self._replicas[number], now)
            if running + 1 < self._engine.places:
                heapq.heapreplace(takers, (running + 1, number))
            else:
                heapq.heappop(takers)

    def _begin(self, request: Request, replica: _Replica, now: float) -> None:
        heapq.heappush(replica.ends, replica.tokens + request.tokens)
        took = now - request.at + self._engine.prefill_seconds + 1 / self._engine.speed(len(replica.ends))
        self._first_tokens.append((now, took))
        if took <= self.outcome.promise_seconds:
            self.outcome.kept += 1
        else:
            self.outcome.late += 1


def simulate(
    requests: Sequence[Request],
    rule: Rule,
    *,
    seconds: float,
    replicas: int,
    promise_seconds: float,
    engine: Engine | None = None,
    queue: Queue | None = None,
) -> Outcome:
    """One rule on one load. requests: in the order of their times. replicas: those that serve at the beginning."""
    fleet = Fleet(engine or Engine(), queue or Queue(), replicas=replicas, promise_seconds=promise_seconds)
    coming = 0
    for step in range(ceil(seconds * _STEPS_PER_SECOND)):
        now = (step + 1) / _STEPS_PER_SECOND
        while coming < len(requests) and requests[coming].at < now:
            fleet.arrive(requests[coming])
            coming += 1
        fleet.step(now)
        if step % _STEPS_PER_SECOND == 0:
            fleet.scale(rule(now, fleet.signal(now)), now)
        if step % (_SAMPLE_SECONDS * _STEPS_PER_SECOND) == 0:
            fleet.sample(now)
    return fleet.outcome


def _percentile(values: list[float], part: float) -> float | None:
    """The smallest value that so great a part of all does not exceed."""
    if not values:
        return None
    values.sort()
    return values[ceil(part * len(values)) - 1]
