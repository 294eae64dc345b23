"""Which replica a request goes to: pure functions of at most 30 lines, no state, no clock.

A policy gets the replicas that may take the request, a turn (a number that grows by one with each request), and what the
request has an affinity to (a 64-bit hash; None: to nothing). It returns one of them, or None where all are full. A replica's
`load` is what counts: replicas.py makes it of requests in flight, other routers' load, slow start and limits.

Affinity is by rendezvous hashing: each replica has a score for each key, and the highest wins. So all routers agree without a
word between them, and a replica that comes or goes moves its own keys and no others.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeVar

FULL: Final = math.inf
"""The load of a replica that takes no more."""
BOUND: Final = 1.25
"""How much of the mean load a replica may reach before the next one gets its keys (c in Mirrokni, Thorup and Zadimoghaddam,
Consistent Hashing with Bounded Loads, 2018): a smaller one evens the load out, a larger one keeps caches warm."""
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


class Loaded(Protocol):
    """What a policy sees of a replica."""

    load: float
    """Requests in flight, weighed; FULL where it takes no more."""

    @property
    def salt(self) -> int:
        """64 random bits, the same for it in all routers."""


R = TypeVar("R", bound=Loaded)


class Policy(Protocol):
    """A choice."""

    def __call__(self, candidates: Sequence[R], turn: int, affinity: int | None = None) -> R | None: ...


def least_connections(candidates: Sequence[R], turn: int, affinity: int | None = None) -> R | None:
    """The one with the least load; equals take turns."""
    least, equals = FULL, []
    for replica in candidates:
        load = replica.load
        if load < least:
            least, equals = load, [replica]
        elif load == least != FULL:
            equals.append(replica)
    return equals[turn % len(equals)] if equals else None


def prefix_affinity(candidates: Sequence[R], turn: int, affinity: int | None = None) -> R | None:
    """The one that the key belongs to, or the next of those that are not far above the mean: what is hot spreads."""
    if affinity is None:
        return least_connections(candidates, turn)
    takes = [replica for replica in candidates if replica.load < FULL]
    if not takes:
        return None
    bound = math.ceil(BOUND * (sum([replica.load for replica in takes]) + 1) / len(takes))
    return _home([replica for replica in takes if replica.load < bound], affinity)


def session_affinity(candidates: Sequence[R], turn: int, affinity: int | None = None) -> R | None:
    """The one that the session belongs to, however loaded, unless it is full: then the next."""
    if affinity is None:
        return least_connections(candidates, turn)
    takes = [replica for replica in candidates if replica.load < FULL]
    return _home(takes, affinity) if takes else None


def _home(replicas: Sequence[R], key: int) -> R:
    """The highest score wins. Multiplicative hashing (Knuth, volume 3, 6.4) is enough, since keys and salts are random bits."""
    return max(replicas, key=lambda replica: ((key ^ replica.salt) * _GOLDEN) & _MASK)


PolicyName = Literal["LeastConnections", "PrefixAffinity", "SessionAffinity"]
POLICIES: Final[Mapping[PolicyName, Policy]] = {
    "LeastConnections": least_connections,
    "PrefixAffinity": prefix_affinity,
    "SessionAffinity": session_affinity,
}
