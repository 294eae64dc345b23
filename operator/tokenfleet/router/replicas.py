"""The replicas of one model, and what each has in flight.

`observe` takes what the watch (or a static list) last saw; `lease` picks a replica and counts a request on it until the
lease is released. Nothing else writes `in_flight`. A replica that disappears keeps its object, and so its count, until
its last lease ends: streams on it go on.
"""

import logging
from collections.abc import Collection, Iterable
from enum import Enum
from types import TracebackType

import msgspec

from tokenfleet.router.balance import least_connections
from tokenfleet.router.rejections import ALL_DRAINING, NO_REPLICAS, NONE_READY, Rejected

log = logging.getLogger(__name__)


class State(Enum):
    """What may be done with a replica."""

    ROUTABLE = "routable"
    DRAINING = "draining"
    """It goes on with what it has, and gets nothing new."""
    UNREADY = "unready"


class Sighting(msgspec.Struct, frozen=True):
    """A replica as its source sees it."""

    key: str
    """Its identity: a pod's uid. A new pod under an old name or address is another replica."""
    name: str
    host: str
    """Empty while it has no address."""
    port: int
    state: State
    reason: str = ""
    """Why it is not routable, for people."""


class Replica:
    """One engine."""

    __slots__ = ("authority", "in_flight", "seen")

    def __init__(self, seen: Sighting) -> None:
        self.in_flight = 0
        self.seen = seen
        self.authority = b""
        self.update(seen)

    def update(self, seen: Sighting) -> None:
        self.seen = seen
        self.authority = (f"[{seen.host}]:{seen.port}" if ":" in seen.host else f"{seen.host}:{seen.port}").encode()

    @property
    def name(self) -> str:
        return self.seen.name


class Lease:
    """One request's place on a replica. Ends by `release`, or by the end of its `with`; ending it twice is harmless."""

    __slots__ = ("_held", "replica")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._held = True
        replica.in_flight += 1

    def release(self) -> None:
        if self._held:
            self._held = False
            self.replica.in_flight -= 1

    def __enter__(self) -> Replica:
        return self.replica

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Replicas:
    """Those of one model."""

    __slots__ = ("_known", "_leaving", "_routable", "_turn")

    def __init__(self, *, turn: int = 0) -> None:
        """turn: where equals begin to take turns; random in production, lest all routers begin with the same replica."""
        self._known: dict[str, Replica] = {}
        self._leaving: dict[str, Replica] = {}
        self._routable: tuple[Replica, ...] = ()
        self._turn = turn

    def observe(self, sightings: Iterable[Sighting]) -> None:
        """Take these for all the replicas that there are."""
        seen = {sighting.key: sighting for sighting in sightings}
        for key in self._known.keys() - seen.keys():
            gone = self._leaving[key] = self._known.pop(key)
            log.info("replica %s is gone, with %d requests in flight", gone.name, gone.in_flight)
        for key, sighting in seen.items():
            replica = self._known.get(key) or self._leaving.pop(key, None)
            if replica is None:
                self._known[key] = Replica(sighting)
                _tell(sighting)
            else:
                self._known[key] = replica
                if (replica.seen.state, replica.seen.reason) != (sighting.state, sighting.reason):
                    _tell(sighting)
                replica.update(sighting)
        self._leaving = {key: replica for key, replica in self._leaving.items() if replica.in_flight}
        self._routable = tuple(r for r in self._known.values() if r.seen.state is State.ROUTABLE)

    def lease(self, *, exclude: Collection[Replica] = ()) -> Lease | None:
        """A place on the replica with the fewest requests, or None where none (outside of `exclude`) takes any."""
        candidates = self._routable
        if exclude:
            candidates = tuple(replica for replica in candidates if replica not in exclude)
        else:
            self._turn += 1
        replica = least_connections(candidates, self._turn)
        return Lease(replica) if replica is not None else None

    def refusal(self) -> Rejected:
        """Why there was no lease, for the client."""
        count = len(self._known)
        draining = sum(replica.seen.state is State.DRAINING for replica in self._known.values())
        if not count:
            return Rejected(NO_REPLICAS, "No replica of this model is running at the moment. Try again later.")
        if draining == count:
            return Rejected(ALL_DRAINING, f"All {count} replicas of this model are going away. Try again soon.")
        waiting = f"{count - draining} of {count} replicas of this model are starting or not healthy"
        return Rejected(NONE_READY, f"{waiting}, none is ready. Try again soon.")

    def all(self) -> list[Replica]:
        """Known replicas, and those that are gone but have requests in flight."""
        return [*self._known.values(), *(replica for replica in self._leaving.values() if replica.in_flight)]

    def count(self, state: State) -> int:
        return sum(replica.seen.state is state for replica in self._known.values())


def _tell(sighting: Sighting) -> None:
    why = f": {sighting.reason}" if sighting.reason else ""
    log.info("replica %s (%s:%d) is %s%s", sighting.name, sighting.host, sighting.port, sighting.state.value, why)
