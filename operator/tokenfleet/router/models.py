"""A served model: the pools of replicas that answer for it, and the queue in front of them.

A pool is one LLMDeployment. Most models have one; a shared router may split a model over several by weight. A request takes a
place (`place`) or waits in the queue, and whatever makes room calls `pump`, which gives places to those that wait, in the
queue's order.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from tokenfleet.router.balancing.replicas import Lease, Replica, Replicas
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.shedding import LoadFactor
from tokenfleet.router.queue.waiting import Queue, Ticket
from tokenfleet.router.rejections import NO_REPLICAS, Rejected
from tokenfleet.router.terms import DEFAULT, DEFAULT_MAX_IN_FLIGHT, Terms


class Pool:
    """The replicas of one LLMDeployment."""

    __slots__ = ("credit", "max_in_flight", "name", "prefill", "replicas", "served_name", "weight")

    def __init__(
        self,
        name: str,
        replicas: Replicas,
        *,
        served_name: str,
        prefill: Replicas | None = None,
        weight: int = 1,
        max_in_flight: int | None = None,
    ) -> None:
        self.name = name
        self.served_name = served_name
        """What its engines call the model."""
        self.replicas = replicas
        self.prefill = prefill
        """Where prompts are read, in a disaggregated deployment."""
        self.weight = weight
        self.max_in_flight = max_in_flight
        """Of each engine, where the router's own spec says nothing."""
        self.credit = 0


class Place(msgspec.Struct, frozen=True, eq=False):
    """A request's place on a replica."""

    pool: Pool
    lease: Lease


class Waiter(Protocol):
    """A request that waits for a place."""

    tried: tuple[Replica, ...]
    """Replicas that it must not get."""

    @property
    def affinity(self) -> int | None: ...

    def granted(self, place: Place) -> None:
        """Here it is."""

    def evicted(self, rejected: Rejected) -> None:
        """There will be none."""


class Model:
    """What requests call by one name."""

    __slots__ = ("_pumping", "created", "fallbacks", "load", "name", "pools", "queue", "terms")

    def __init__(self, name: str, *, clock: Callable[[], float]) -> None:
        self.name = name
        self.created = 0
        """Seconds since 1970."""
        self.terms = DEFAULT
        self.pools: tuple[Pool, ...] = ()
        self.fallbacks: tuple[str, ...] = ()
        """Models that may answer while this one has no place, in order."""
        self.queue: Queue[Waiter] = Queue(clock, max_depth=DEFAULT.queue.max_depth, seconds=DEFAULT.queue.timeout_seconds)
        self.load = LoadFactor(self.queue, clock)
        self._pumping = False

    def update(self, terms: Terms, pools: Sequence[Pool], *, created: int, fallbacks: Sequence[str] = ()) -> None:
        """Take these for what the model is now."""
        self.terms, self.pools, self.created, self.fallbacks = terms, tuple(pools), created, tuple(fallbacks)
        self.queue.configure(max_depth=terms.queue.max_depth, seconds=terms.queue.timeout_seconds)
        for pool in self.pools:
            limit = terms.max_in_flight or pool.max_in_flight or DEFAULT_MAX_IN_FLIGHT
            pool.replicas.configure(policy=terms.policy, max_in_flight=limit)
            if pool.prefill is not None:
                pool.prefill.configure(policy=terms.policy, max_in_flight=limit)
        self.pump()

    def place(self, affinity: int | None, exclude: Collection[Replica]) -> Place | None:
        """A place on a replica outside of `exclude`, or None where there is none."""
        pools = self.pools
        if len(pools) == 1:
            pool = pools[0]
            lease = pool.replicas.lease(exclude, affinity)
            return Place(pool, lease) if lease is not None else None
        for pool in self._turns():
            if (lease := pool.replicas.lease(exclude, affinity)) is not None:
                return Place(pool, lease)
        return None

    def pump(self) -> None:
        """Give what room there is to those that wait."""
        if self._pumping or not self.queue.depth:
            return
        self._pumping = True
        try:
            while (ticket := self.queue.first()) is not None:
                waiter = ticket.waiter
                place = self.place(waiter.affinity, waiter.tried)
                if place is not None:
                    self.queue.take()
                    waiter.granted(place)
                elif waiter.tried and not self.has_other(waiter.tried):
                    self.queue.leave(ticket)
                    waiter.evicted(self.refusal())
                else:
                    return
        finally:
            self._pumping = False

    def has_other(self, tried: Collection[Replica]) -> bool:
        """Whether a replica that gets requests, with room or without, is not among these."""
        return any(replica not in tried for pool in self.pools for replica in pool.replicas.routable)

    def join(self, waiter: Waiter, *, priority: Priority, flow: str) -> Ticket[Waiter]:
        """Wait for a place. Rejected where there is no queue, or no room in it."""
        if not self.terms.queue.max_depth:
            raise self.refusal()
        return self.queue.join(waiter, priority=priority, flow=flow)

    def refusal(self) -> Rejected:
        """Why there was no place, for the client."""
        for pool in self.pools:
            if pool.replicas.all():
                return pool.replicas.refusal()
        return Rejected(NO_REPLICAS, "No replica of this model is running at the moment. Try again later.")

    def _turns(self) -> list[Pool]:
        """Pools in the order in which to try them: by smooth weighted round robin, those of weight 0 last of all."""
        total = 0
        for pool in self.pools:
            pool.credit += pool.weight
            total += pool.weight
        order = sorted(self.pools, key=lambda pool: (not pool.weight, -pool.credit))
        if order:
            order[0].credit -= total
        return order
