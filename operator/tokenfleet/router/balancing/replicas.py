"""The replicas of one pool: who may get a request, and who gets it.

`observe` takes what the watch (or a static list) last saw; `lease` picks a replica by the policy, and counts a request on it
until the lease is released. Nothing else writes `in_flight`. A replica that disappears keeps its object, and so its count,
until its last lease ends: streams on it go on.

What changes by time alone (a slow start goes on, an ejection ends, other routers' load is forgotten) changes in `look`: when a
lease is asked for, and as `expire`, in the wheel of deadlines, so that those who wait for room hear of it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from tokenfleet.router.balancing import foreign
from tokenfleet.router.balancing.lease import Lease
from tokenfleet.router.balancing.policies import FULL, POLICIES, Policy, PolicyName, least_connections
from tokenfleet.router.balancing.replica import FIRST_SHARE, SLOW_START_SECONDS, Replica, Sighting, State
from tokenfleet.router.rejections import ALL_DRAINING, NO_REPLICAS, NONE_READY, QUEUE_FULL, Rejected
from tokenfleet.router.terms import DEFAULT_MAX_IN_FLIGHT
from tokenfleet.router.wire.deadlines import NEVER

__all__ = ["Lease", "Replica", "Replicas", "Sighting", "State"]

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25


class Replicas:
    """Those of one pool."""

    __slots__ = (
        *("_fresh", "_known", "_leaving", "_limit", "_looked", "_open", "_optional", "_policy", "_routable", "_turn"),
        *("clock", "deadline", "ejections", "failures", "freed"),
    )

    def __init__(self, *, turn: int = 0, clock: Callable[[], float] = time.monotonic, optional: bool = False) -> None:
        """turn: where equals begin to take turns; random in production, lest all routers begin with the same replica.
        optional: requests can do without any of them, so all may be ejected at once."""
        self.clock = clock
        self._optional = optional
        self._turn = turn
        self._policy: Policy = least_connections
        self._limit = DEFAULT_MAX_IN_FLIGHT
        self._known: dict[str, Replica] = {}
        self._leaving: dict[str, Replica] = {}
        self._routable: tuple[Replica, ...] = ()
        self._open: tuple[Replica, ...] = ()
        """Routable and not ejected."""
        self._fresh: dict[Replica, float] = {}
        """In their slow start, and since when."""
        self._looked = clock()
        self.deadline = NEVER
        """When to look again."""
        self.freed: Callable[[], None] | None = None
        self.failures = 0
        """Of all replicas, ever."""
        self.ejections: Counter[str] = Counter()
        """By the kind of the last failure."""

    def configure(self, policy: PolicyName, max_in_flight: int) -> None:
        """Take these from now on; what is in flight stays."""
        self._policy = POLICIES[policy]
        self._limit = max_in_flight
        for replica in self._known.values():
            replica.limit(max_in_flight)
        self._free()

    def observe(self, sightings: Iterable[Sighting]) -> None:
        """Take these for all the replicas that there are."""
        seen = {sighting.key: sighting for sighting in sightings}
        for key in self._known.keys() - seen.keys():
            gone = self._leaving[key] = self._known.pop(key)
            log.info("replica %s is gone, with %d requests in flight", gone.name, gone.in_flight)
        for key, sighting in seen.items():
            replica = self._known.get(key) or self._leaving.pop(key, None)
            if replica is None:
                self._known[key] = Replica(sighting, self, limit=self._limit)
                _tell(sighting)
            else:
                self._known[key] = replica
                if (replica.seen.state, replica.seen.reason) != (sighting.state, sighting.reason):
                    _tell(sighting)
                replica.limit(self._limit)
                replica.update(sighting)
        self._leaving = {key: replica for key, replica in self._leaving.items() if replica.in_flight}
        before, self._routable = self._routable, tuple(r for r in self._known.values() if r.seen.state is State.ROUTABLE)
        comers = [replica for replica in self._routable if replica not in before]
        for replica in comers:
            replica.renew()
        self._arrange(comers=comers)
        self._free()

    def lease(self, exclude: Collection[Replica] = (), affinity: int | None = None, adapter: str | None = None) -> Lease | None:
        """A place on the replica that the policy chooses, or None where none takes any. exclude: not on these. adapter: only on
        those that have it."""
        if self.deadline != NEVER and (now := self.clock()) >= self.deadline:
            self.look(now)
        candidates = self.candidates(exclude, adapter) if exclude or adapter is not None else self._open
        if not exclude:
            self._turn += 1
        replica = self._policy(candidates, self._turn, affinity)
        return Lease(replica) if replica is not None else None

    def last_resort(self, exclude: Collection[Replica], adapter: str | None) -> Lease | None:
        """A place on a replica that is left alone for a moment, for a request that cannot wait."""
        candidates = [one for one in self.candidates(exclude, adapter) if one.paused and one.could_take]
        return Lease(min(candidates, key=lambda one: one.in_flight)) if candidates else None

    def candidates(self, exclude: Collection[Replica] = (), adapter: str | None = None) -> Sequence[Replica]:
        """Those that a lease is chosen from, room or not: ejected ones only where no others are left."""
        for replicas in (self._open,) if self._optional else (self._open, self._routable):
            found = [one for one in replicas if one not in exclude and (adapter is None or adapter in one.seen.adapters)]
            if found:
                return found
        return ()

    @property
    def routable(self) -> Sequence[Replica]:
        """Those that may get requests, whether they have room or not."""
        return self._routable

    @property
    def full(self) -> bool:
        """There are replicas that may get requests, and all are at their limits."""
        return bool(self._open) and all(replica.load == FULL for replica in self._open)

    def refusal(self) -> Rejected:
        """Why there was no lease, for the client."""
        count = len(self._known)
        draining = self.count(State.DRAINING)
        if not count:
            return Rejected(NO_REPLICAS, "No replica of this model is running at the moment. Try again later.")
        if self.full:
            return Rejected(QUEUE_FULL, "All replicas of this model have as many requests as they take. Try again soon.")
        if draining == count:
            return Rejected(ALL_DRAINING, f"All {count} replicas of this model are going away. Try again soon.")
        waiting = f"{count - draining} of {count} replicas of this model are starting or not healthy"
        return Rejected(NONE_READY, f"{waiting}, none is ready. Try again soon.")

    def all(self) -> list[Replica]:
        """Known replicas, and those that are gone but have requests in flight."""
        return [*self._known.values(), *(replica for replica in self._leaving.values() if replica.in_flight)]

    def count(self, state: State) -> int:
        return sum(replica.seen.state is state for replica in self._known.values())

    @property
    def in_flight(self) -> int:
        """On all of them."""
        return sum(replica.in_flight for replica in self.all())

    # --- Owner

    def failed(self, replica: Replica, kind: str) -> None:
        """Count it, and eject the replica where that is due and leaves enough others."""
        self.failures += 1
        due = replica.conduct.failed()
        if due and replica in self._open and sum(one.ejected for one in self._routable) < self._dispensable:
            seconds = replica.conduct.eject(self.clock())
            self.ejections[kind] += 1
            log.warning("replica %s failed again and again (last: %s): ejected for %g s", replica.name, kind, seconds)
            self._arrange()
            self.stir()

    def stir(self) -> None:
        """Something changes with time from now on."""
        if self.deadline == NEVER:
            self._looked = self.clock()
            self.deadline = self._looked + LOOK_SECONDS

    # --- Time

    def expire(self) -> None:
        """The wheel's: time has come to look again."""
        self.look(self.clock())
        self._free()

    def look(self, now: float) -> None:
        """Take notice of the time."""
        known = self._known.values()
        unsettled = foreign.fade([replica.foreign for replica in known], now, now - self._looked)
        self._looked = now
        over = [replica for replica in known if replica.ejected and replica.conduct.until <= now]
        for replica in over:
            _readmit(replica)
        if over:
            self._arrange(comers=over)
        for replica, since in list(self._fresh.items()):
            share = (now - since) / SLOW_START_SECONDS
            if share >= 1:
                del self._fresh[replica]
            replica.ease_in(min(1.0, max(FIRST_SHARE, share)))
        paused = [replica for replica in known if replica.look(now)]
        unsettled = unsettled or bool(paused) or bool(self._fresh) or any(replica.ejected for replica in known)
        self.deadline = now + LOOK_SECONDS if unsettled else NEVER

    def _arrange(self, comers: Collection[Replica] = ()) -> None:
        """Decide who may get requests. comers: those who may again, or for the first time; they begin slowly."""
        routable, now = self._routable, self.clock()
        ejected = sorted((one for one in routable if one.ejected), key=lambda one: one.conduct.until)
        none_left = len(ejected) == len(routable) and not self._optional
        back = ejected if none_left else ejected[: max(0, len(ejected) - self._dispensable)]
        for replica in back:
            _readmit(replica)
        self._open = tuple(replica for replica in routable if not replica.ejected)
        for replica in (*comers, *back):
            self._fresh[replica] = now
            replica.ease_in(FIRST_SHARE)
        for replica in [one for one in self._fresh if one not in self._open]:
            del self._fresh[replica]
        if len(self._fresh) == len(self._open):  # Nobody else is there who could carry the rest.
            for replica in self._fresh:
                replica.ease_in(1.0)
            self._fresh.clear()
        if self._fresh:
            self.stir()

    @property
    def _dispensable(self) -> int:
        """How many may be ejected at once: half, so never the last; all where requests can do without."""
        return len(self._routable) if self._optional else len(self._routable) // 2

    def _free(self) -> None:
        if self.freed is not None:
            self.freed()


def _readmit(replica: Replica) -> None:
    replica.conduct.readmit()
    log.info("replica %s is given requests again", replica.name)


def _tell(sighting: Sighting) -> None:
    why = f": {sighting.reason}" if sighting.reason else ""
    log.info("replica %s (%s:%d) is %s%s", sighting.name, sighting.host, sighting.port, sighting.state.value, why)
