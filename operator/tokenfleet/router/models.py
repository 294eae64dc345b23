"""A served model: the pools of replicas that answer for it, and the queue in front of them.

A pool is one LLMDeployment. Most models have one; a shared router may split a model over several by weight. A LoRA adapter is a
model like any other here, whose pools see only the replicas that have it. A request takes a place (`place`) or waits in the
queue, and whatever makes room calls `pump`, which gives places to those that wait, in the queue's order.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from tokenfleet import contract
from tokenfleet.router.balancing.policies import FULL
from tokenfleet.router.balancing.replicas import Lease, Replica, Replicas
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.shedding import LoadFactor
from tokenfleet.router.queue.waiting import Queue, Ticket
from tokenfleet.router.rejections import NO_REPLICAS, NONE_READY, QUEUE_FULL, Rejected
from tokenfleet.router.terms import DEFAULT, DEFAULT_MAX_IN_FLIGHT, Terms


class Pool:
    """The replicas of one LLMDeployment: all of them, or those that have one adapter.

    The pool of an adapter has the same `replicas` as that of the model below it: what is in flight, limits and ejections are
    the pods', whichever name a request gives.
    """

    __slots__ = (
        *("adapter", "credit", "max_in_flight", "max_model_len", "max_tokens", "name", "prefill", "replicas", "served_name"),
        *("continues", "track", "weight"),
    )

    def __init__(
        self,
        name: str,
        replicas: Replicas,
        *,
        served_name: str,
        prefill: Replicas | None = None,
        weight: int = 1,
        max_in_flight: int | None = None,
        max_model_len: int | None = None,
        adapter: str | None = None,
        track: str = contract.TRACK_STABLE,
        continues: bool = True,
    ) -> None:
        self.name = name
        self.served_name = served_name
        """What its engines call the model, or its adapter."""
        self.adapter = adapter
        """None: the model itself."""
        self.replicas = replicas
        self.prefill = prefill
        """Where prompts are read, in a disaggregated deployment."""
        self.weight = weight
        self.max_in_flight = max_in_flight
        """Of each engine, where the router's own spec says nothing."""
        self.max_model_len = max_model_len
        """In tokens, prompt and answer; None: its spec does not say."""
        self.max_tokens: int | None = None
        """For a request that names none; None: its engines' own context is bound enough."""
        self.track = track
        """Of its pods: the stable ones, or the canary's."""
        self.continues = continues
        """A stream whose replica is lost goes on with another one."""
        self.credit = 0

    def has(self, replica: Replica) -> bool:
        """Whether a replica of this LLMDeployment can answer."""
        return self.adapter is None or self.adapter in replica.seen.adapters

    @property
    def routable(self) -> list[Replica]:
        """Those that may get requests, with room or without."""
        return [replica for replica in self.replicas.routable if self.has(replica)]

    @property
    def has_room(self) -> bool:
        """There is a place for a request now."""
        return any(replica.load < FULL for replica in self.replicas.candidates(adapter=self.adapter))

    def refusal(self) -> Rejected:
        """Why there was no lease, for the client."""
        if self.adapter is None or not self.replicas.routable:
            return self.replicas.refusal()
        if not self.routable:
            return Rejected(NONE_READY, f"No replica that is ready has loaded the adapter {self.adapter} yet. Try again soon.")
        words = "All replicas that have this adapter have as many requests as they take. Try again soon."
        return Rejected(QUEUE_FULL, words)


class Place(msgspec.Struct, frozen=True, eq=False):
    """A request's place on a replica."""

    pool: Pool
    lease: Lease


class Waiter(Protocol):
    """A request that waits for a place."""

    @property
    def affinity(self) -> int | None: ...

    def granted(self, place: Place) -> None:
        """Here it is."""

    def evicted(self, rejected: Rejected) -> None:
        """There will be none."""


class Model:
    """What requests call by one name."""

    __slots__ = ("_pumping", "created", "fallbacks", "load", "name", "parent", "pools", "queue", "terms")

    def __init__(self, name: str, *, clock: Callable[[], float]) -> None:
        self.name = name
        self.created = 0
        """Seconds since 1970."""
        self.parent: str | None = None
        """Of an adapter: the name of the model below it."""
        self.terms = DEFAULT
        self.pools: tuple[Pool, ...] = ()
        self.fallbacks: tuple[str, ...] = ()
        """Models that may answer while this one has no place, in order."""
        self.queue: Queue[Waiter] = Queue(clock, max_depth=DEFAULT.queue.max_depth, seconds=DEFAULT.queue.timeout_seconds)
        self.load = LoadFactor(self.queue, clock)
        self._pumping = False

    def update(
        self,
        terms: Terms,
        pools: Sequence[Pool],
        *,
        created: int,
        fallbacks: Sequence[str] = (),
        parent: str | None = None,
    ) -> None:
        """Take these for what the model is now."""
        self.terms, self.pools, self.created, self.fallbacks = terms, tuple(pools), created, tuple(fallbacks)
        self.parent = parent
        self.queue.configure(max_depth=terms.queue.max_depth, seconds=terms.queue.timeout_seconds)
        for pool in self.pools:
            limit = terms.max_in_flight or pool.max_in_flight or DEFAULT_MAX_IN_FLIGHT
            pool.max_tokens = _unsaid(terms.bounds.max_tokens, pool.max_model_len)
            pool.replicas.configure(policy=terms.policy, max_in_flight=limit)
            if pool.prefill is not None:
                pool.prefill.configure(policy=terms.policy, max_in_flight=limit)
        self.pump()

    def place(self, affinity: int | None, exclude: Collection[Replica] = ()) -> Place | None:
        """A place on a replica outside of `exclude`, or None where there is none."""
        pools = self.pools
        if len(pools) == 1:
            pool = pools[0]
            lease = pool.replicas.lease(exclude, affinity, pool.adapter)
            return Place(pool, lease) if lease is not None else None
        for pool in self._turns():
            if (lease := pool.replicas.lease(exclude, affinity, pool.adapter)) is not None:
                return Place(pool, lease)
        return None

    def last_resort(self, exclude: Collection[Replica]) -> Place | None:
        """Where there is no queue to wait in: a place on a replica that is left alone for a moment."""
        for pool in self.pools:
            if (lease := pool.replicas.last_resort(exclude, pool.adapter)) is not None:
                return Place(pool, lease)
        return None

    def pump(self) -> None:
        """Give what room there is to those that wait."""
        while self.queue.depth and self.advance():
            pass

    def advance(self) -> bool:
        """Give a place to the first of those that wait. Whether there was one."""
        ticket = self.queue.first()
        if self._pumping or ticket is None:
            return False
        self._pumping = True
        try:
            waiter = ticket.waiter
            place = self.place(waiter.affinity)
            if place is None:
                return False
            self.queue.take()
            waiter.granted(place)
        finally:
            self._pumping = False
        return True

    def has_other(self, tried: Collection[Replica]) -> bool:
        """Whether a replica that gets requests, with room or without, is not among these."""
        return any(replica not in tried for pool in self.pools for replica in pool.routable)

    def join(self, waiter: Waiter, *, priority: Priority, flow: str, since: float | None = None) -> Ticket[Waiter]:
        """Wait for a place. since: of one that waited before, had a place and lost it. Rejected where there is no queue, or no
        room in it."""
        if not self.terms.queue.max_depth:
            raise self.refusal()
        return self.queue.join(waiter, priority=priority, flow=flow, since=since)

    def refusal(self) -> Rejected:
        """Why there was no place, for the client."""
        for pool in self.pools:
            if pool.replicas.all():
                return pool.refusal()
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


def _unsaid(bound: int | None, context: int | None) -> int | None:
    """vLLM clamps an answer to what is left of its context by itself, and refuses a max_tokens above the whole of it."""
    return bound if bound is not None and (context is None or bound < context) else None
