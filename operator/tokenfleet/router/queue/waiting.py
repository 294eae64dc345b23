"""Where the requests of one model wait while every replica is at its limit: bounded, in a stated order, each with a deadline.

The order: by priority; among equals the flows (keys) take turns, so that one with a thousand waiting does not hold up one
with a single one; within a flow by arrival. A full queue refuses a newcomer, unless it has a better claim to a place than one
of those who wait (`_victim`). Who had a place and lost it may come back, before the others of its flow, with the time that it
has left. No verb waits, and none takes longer because more wait, but for the choice of a victim, which looks at each flow of
one priority, and `expire`, where any came back.

Waiters are called while the queue is in order, and may call back into it.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.recent import Mean, Rate
from tokenfleet.router.rejections import QUEUE_FULL, QUEUE_TIMEOUT, Rejected
from tokenfleet.router.wire.deadlines import NEVER

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = (1, 60)
"""Within which Retry-After stays."""
_DRAIN_SECONDS: Final = 10.0
"""What a full queue is taken to need, until it has been seen to drain."""


class Waiter(Protocol):
    """Whoever waits. Who takes its ticket tells it of its place; the queue tells it when there will be none."""

    def evicted(self, rejected: Rejected) -> None:
        """Its ticket has lost its place in the queue, for this reason."""


W = TypeVar("W", bound=Waiter)


class Ticket(msgspec.Struct, Generic[W], frozen=True, eq=False):
    """One place in the queue."""

    waiter: W
    priority: Priority
    flow: Hashable
    since: float


class _Level(Generic[W]):
    """Those of one priority: per flow the tickets in order of arrival, the flows in the order of their turns."""

    __slots__ = ("flows", "size")

    def __init__(self) -> None:
        self.flows: OrderedDict[Hashable, OrderedDict[Ticket[W], None]] = OrderedDict()
        self.size = 0

    def add(self, ticket: Ticket[W], *, first: bool = False) -> None:
        flow = self.flows.get(ticket.flow)
        if flow is None:
            flow = self.flows[ticket.flow] = OrderedDict()
        flow[ticket] = None
        if first:
            flow.move_to_end(ticket, last=False)
        self.size += 1

    def remove(self, ticket: Ticket[W]) -> None:
        flow = self.flows[ticket.flow]
        del flow[ticket]
        if not flow:
            del self.flows[ticket.flow]
        self.size -= 1

    def first(self) -> Ticket[W]:
        return next(iter(next(iter(self.flows.values()))))

    def turn(self, flow: Hashable) -> None:
        """This flow has had its turn."""
        if flow in self.flows:
            self.flows.move_to_end(flow)


class Queue(Generic[W]):
    """Of one model. It stands in the wheel of deadlines as one entry."""

    __slots__ = ("_arrivals", "_clock", "_drain", "_levels", "_returned", "_waits", "deadline", "depth", "max_depth", "seconds")

    def __init__(self, clock: Callable[[], float], *, max_depth: int, seconds: float) -> None:
        """max_depth: 0 is no queue. seconds: how long anyone waits at most."""
        self._clock = clock
        self._arrivals: OrderedDict[Ticket[W], None] = OrderedDict()
        self._returned: set[Ticket[W]] = set()
        """Of the arrivals those that came back, whose time began before."""
        self._levels: tuple[_Level[W], ...] = tuple(_Level() for _ in Priority)
        self._drain = Rate()
        self.max_depth = max_depth
        self.seconds = seconds
        self.depth = 0
        self.deadline = NEVER
        """Not after the earliest one's; it may be earlier, where that one has left."""
        self._waits: dict[Hashable, Mean] = {}
        """By flow, in seconds; as many as there are keys."""

    def configure(self, *, max_depth: int, seconds: float) -> None:
        """From now on. Who waits keeps the place, also above the new depth, and has the new deadline."""
        self.max_depth, self.seconds = max_depth, seconds
        self._set_deadline()

    def join(self, waiter: W, *, priority: Priority, flow: Hashable, since: float | None = None) -> Ticket[W]:
        """A place behind those who wait, or Rejected. The waiter with the weakest claim may lose its place to this one.

        since: of one that comes back, when it came first.
        """
        now = self._clock()
        victim = None
        if self.depth >= self.max_depth:
            victim = self._victim(priority, flow)
            if victim is None:
                raise self._full()
            self._remove(victim, now)
        ticket = Ticket(waiter, priority, flow, now if since is None else since)
        self._arrivals[ticket] = None
        if since is not None:
            self._returned.add(ticket)
        self._levels[priority].add(ticket, first=since is not None)
        self.depth += 1
        if self.depth == 1:
            self._drain.begin(now)
        self.deadline = min(self.deadline, ticket.since + self.seconds)
        if victim is not None:
            self._tell(victim, self._full())
        return ticket

    def leave(self, ticket: Ticket[W]) -> None:
        """Its client has gone. Harmless where the ticket has no place any more."""
        if ticket in self._arrivals:
            self._remove(ticket, self._clock())

    def first(self) -> Ticket[W] | None:
        """Whose turn it is: what `take` would give."""
        if self.depth:
            for level in reversed(self._levels):
                if level.size:
                    return level.first()
        return None

    def take(self) -> Ticket[W]:
        """Out of the queue, to be given a place on a replica."""
        ticket = self.first()
        if ticket is None:
            raise LookupError("The queue is empty.")
        now = self._clock()
        self._drain.event(now)
        self._remove(ticket, now)
        self._levels[ticket.priority].turn(ticket.flow)
        self._waited(ticket, now)
        return ticket

    def expire(self) -> None:
        """Evict those whose time is over."""
        now = self._clock()
        due = [ticket for ticket in self._returned if ticket.since + self.seconds <= now]
        for ticket in self._arrivals:
            if ticket in self._returned:
                continue
            if ticket.since + self.seconds > now:
                break
            due.append(ticket)
        for ticket in due:
            self._waited(ticket, now)
        if due:
            message = f"No replica of this model had room for this request within the {self.seconds:g} s that it may wait."
            self._evict(due, Rejected(QUEUE_TIMEOUT, f"{message} Try again later.", retry_after=self.retry_after()))
        self._set_deadline()

    def evict_all(self, rejected: Rejected) -> None:
        """Nobody who waits now will get a place here."""
        self._evict(list(self._arrivals), rejected)

    def share(self, priority: Priority, flow: Hashable) -> float:
        """How full the queue is for a newcomer, from 0 to 1: those who would be served after it do not count."""
        ahead = sum([level.size for level in self._levels[priority:]])
        own = self._levels[priority]
        if len(own.flows) > 1 or flow not in own.flows:
            turn = len(own.flows.get(flow, ())) + 1
            ahead -= sum([len(tickets) - turn for tickets in own.flows.values() if len(tickets) > turn])
        return min(1.0, ahead / self.max_depth) if self.max_depth else 1.0

    def recent_wait(self, flow: Hashable) -> float:
        """What this flow's tickets waited lately, in seconds, until they got a place or their time was over."""
        mean = self._waits.get(flow)
        return mean.value(self._clock()) if mean is not None else 0.0

    def longest_wait(self) -> float:
        """Of all flows' recent ones."""
        now = self._clock()
        return max((mean.value(now) for mean in self._waits.values()), default=0.0)

    def waiting(self, priority: Priority) -> int:
        return self._levels[priority].size

    def retry_after(self) -> int:
        """In how many seconds those who wait now will be through, as the queue drained lately."""
        rate = self._drain.value(self._clock(), prior=(self.max_depth + 1) / _DRAIN_SECONDS)
        least, most = _RETRY_SECONDS
        return most if (self.depth + 1) > most * rate else max(least, math.ceil((self.depth + 1) / rate))

    def _victim(self, priority: Priority, flow: Hashable) -> Ticket[W] | None:
        """Whose place goes to a newcomer when the queue is full: the youngest of the flow with the most tickets, in the lowest
        priority of all; only to a higher priority, or to an equal whose flow has, with the newcomer, fewer tickets still."""
        for level in self._levels[: priority + 1]:
            if level.size:
                most = max(map(len, level.flows.values()))
                if level is self._levels[priority] and most <= len(level.flows.get(flow, ())) + 1:
                    return None
                youngest = [next(reversed(tickets)) for tickets in level.flows.values() if len(tickets) == most]
                return max(youngest, key=lambda ticket: ticket.since)
        return None

    def _full(self) -> Rejected:
        wait = f"{self.depth} requests wait already" if self.max_depth else "there is no queue"
        after = self.retry_after()
        message = f"No replica of this model has room for this request, and {wait}. Try again in {after} s."
        return Rejected(QUEUE_FULL, message, retry_after=after)

    def _waited(self, ticket: Ticket[W], now: float) -> None:
        mean = self._waits.get(ticket.flow)
        if mean is None:
            mean = self._waits[ticket.flow] = Mean()
        mean.add(now - ticket.since, now)

    def _remove(self, ticket: Ticket[W], now: float) -> None:
        del self._arrivals[ticket]
        self._returned.discard(ticket)
        self._levels[ticket.priority].remove(ticket)
        self.depth -= 1
        if not self.depth:
            self._drain.end(now)

    def _evict(self, tickets: Iterable[Ticket[W]], rejected: Rejected) -> None:
        for ticket in tickets:
            if ticket in self._arrivals:  # An earlier one's waiter may have taken it out.
                self._remove(ticket, self._clock())
                self._tell(ticket, rejected)

    def _tell(self, ticket: Ticket[W], rejected: Rejected) -> None:
        try:
            ticket.waiter.evicted(rejected)
        except Exception:  # One broken waiter must not cost the others their deadlines.
            log.exception("a waiter failed while it was told that it has lost its place")

    def _set_deadline(self) -> None:
        first = next((ticket.since for ticket in self._arrivals if ticket not in self._returned), NEVER)
        self.deadline = min([first, *(ticket.since for ticket in self._returned)]) + self.seconds
