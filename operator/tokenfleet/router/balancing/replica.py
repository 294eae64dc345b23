"""One engine as a router sees it: where it is, what is in flight on it, and how much that weighs.

`load` is what policies compare: its own requests and an estimate of other routers', more while the replica is fresh, FULL where
it takes no more. It is kept up to date by whoever changes one of its parts, so that choosing costs one read a replica. The
limit is on the engine's requests, whoever sent them; but a router may always have a quarter of it, lest one that came late
never gets a place.
"""

from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from tokenfleet.router.balancing.foreign import Foreign
from tokenfleet.router.balancing.outliers import Conduct
from tokenfleet.router.balancing.pauses import Pause
from tokenfleet.router.balancing.policies import FULL

SLOW_START_SECONDS: Final = 5.0
FIRST_SHARE: Final = 0.1
"""Of what the others have, at the beginning of a slow start."""
_OWN_PART: Final = 4


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
    adapters: frozenset[str] = frozenset()
    """LoRA adapters that it has loaded, by name."""


class Owner(Protocol):
    """Those that a replica is one of."""

    clock: Callable[[], float]
    freed: Callable[[], None] | None
    """Called whenever there may be room where there was none."""

    def failed(self, replica: "Replica", kind: str) -> None:
        """It did; eject it, if that is due."""

    def stir(self) -> None:
        """Something changes with time from now on."""


class Replica:
    """One engine."""

    __slots__ = (
        *("authority", "conduct", "foreign", "in_flight", "load", "owner", "paused", "salt", "seen"),
        *("_limit", "_others", "_pause", "_penalty", "_room", "_share", "_whole_room"),
    )

    def __init__(self, seen: Sighting, owner: Owner, *, limit: int) -> None:
        self.owner = owner
        self.in_flight = 0
        """Requests that this router has given to it and that have not ended."""
        self.load: float = 0.0
        self.foreign = Foreign()
        self.conduct = Conduct()
        self.salt = int.from_bytes(blake2b(seen.key.encode(), digest_size=8).digest(), "little")
        self._limit = limit
        self._pause = Pause()
        self.paused = False
        """It gets nothing, or less than it could have, for a moment."""
        self._share = 1.0
        self.update(seen)
        self.tune()

    def update(self, seen: Sighting) -> None:
        self.seen = seen
        self.authority = (f"[{seen.host}]:{seen.port}" if ":" in seen.host else f"{seen.host}:{seen.port}").encode()

    @property
    def name(self) -> str:
        return self.seen.name

    @property
    def ejected(self) -> bool:
        return self.conduct.until > 0

    # --- What an exchange has to tell

    def succeeded(self) -> None:
        """It answered, and whole."""
        self.conduct.succeeded()

    def failed(self, kind: str) -> None:
        """It did not take a request, or did not bring it to its end. kind: how, for people and metrics."""
        self.owner.failed(self, kind)

    def pause(self, *, drains: bool = False) -> None:
        """It could not be reached, was lost, or drains: leave it alone for a moment."""
        self._pause.begin(self.owner.clock(), drains=drains)
        self.tune()
        self.owner.stir()

    def filled(self) -> None:
        """It has refused one of its requests, which is still counted, for want of room."""
        self._pause.fill(self.in_flight - 1, self.owner.clock())
        self.tune()
        self.owner.stir()

    def reached(self, *, answered: bool = False) -> None:
        """There is a connection to it, or even an answer. To be told while it is paused."""
        if self._pause.end(answered=answered):
            self.tune()
            self._tell_if_free()

    def renew(self) -> None:
        """It was not routable, and is again: whatever was wrong with it is over."""
        self.conduct = Conduct()
        self._pause = Pause()
        self.tune()

    @property
    def in_doubt(self) -> bool:
        """Whether it is there at all is not known: only a new connection shows it at once."""
        return self._pause.in_doubt

    @property
    def could_take(self) -> bool:
        """But for its pause it would have room."""
        return self.in_flight < self._whole_room

    def reported(self, in_flight: int) -> None:
        """It says how many requests it has; one of ours, that it answers, among them."""
        others = in_flight - self.in_flight
        if self.foreign.report(others, self.owner.clock()) and self.foreign.load != self._others:
            was = self.load
            self.tune()
            self.owner.stir()
            if was == FULL:
                self._tell_if_free()

    def _tell_if_free(self) -> None:
        if self.load < FULL and self.owner.freed is not None:
            self.owner.freed()

    # --- How much it weighs

    def limit(self, limit: int) -> None:
        """Requests that it may have at once."""
        self._limit = limit
        self.tune()

    def ease_in(self, share: float) -> None:
        """Slow start: give it this share of what others get."""
        self._share = share
        self.tune()

    def tune(self) -> None:
        """Something other than `in_flight` has changed."""
        self._others = self.foreign.load
        self._penalty = 1 / self._share
        room = max(self._limit - int(self._others), -(-self._limit // _OWN_PART))
        self._whole_room = max(1, int(room * self._share))
        self._room = self._pause.room(self._whole_room)
        self.paused = self._pause.on
        self.weigh()

    def look(self, now: float) -> bool:
        """Take notice of the time. Whether more of it will change something."""
        self._pause.look(now, self.in_flight, self._limit)
        self.tune()
        return self._pause.passes

    def weigh(self) -> None:
        """`in_flight` has changed."""
        count = self.in_flight
        self.load = (count + self._others) * self._penalty if count < self._room else FULL
