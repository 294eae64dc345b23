"""Which replica a request goes to: pure functions of at most 30 lines, no state, no clock.

A policy gets the replicas that may take the request and a turn (a number that grows by one with each lease), and returns
one of them, or None where there is none. Ties are settled by the turn, so that equals share in equal parts.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """What a policy sees of a replica."""

    in_flight: int


R = TypeVar("R", bound=Loaded)


def least_connections(candidates: Sequence[R], turn: int) -> R | None:
    """The one with the fewest requests in flight; equals take turns."""
    if not candidates:
        return None
    least = min([replica.in_flight for replica in candidates])
    equals = [replica for replica in candidates if replica.in_flight == least]
    return equals[turn % len(equals)]
