"""A request on its way to a replica: given to one, and to the next where that one does not do.

States change synchronously, by what `Upstream` and the client's connection call. What a replica answers is for Answering to
take; where the next place comes from, and what an end gives back, for the Exchange to say.
"""

import logging
from abc import abstractmethod
from typing import Final

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.callers.rates import UNLIMITED, Reservation
from tokenfleet.router.client import Client
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Place, Pool
from tokenfleet.router.prefill import DECODE_REFUSED, Prefill
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.relay import Relay, outgoing
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.shared import Shared
from tokenfleet.router.visit import Visit, request_head
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream

_sparingly: Final = Sparingly(logging.getLogger(__name__))

DRAINING: Final = "draining"
LOST: Final = "lost"
FULL: Final = "full"
STALE: Final = "stale_connection"
_CONNECT, _TRANSFER = "connect", "transfer"
"""Why a request was given to a replica again; labels of a metric, too."""


class Delivery(Visit):
    """Of one request."""

    __slots__ = (
        *("_answer", "_client", "_failures", "_last", "_place", "_prefill", "_relay", "_reservation"),
        *("losses", "tried"),
    )

    def __init__(self, client: Client, shared: Shared, job: Job) -> None:
        self._client = client
        self._shared = shared
        self._job = job
        self.tried: tuple[Replica, ...] = ()
        self._failures: dict[str, str] = {}
        self.losses = 0
        """How often a replica was lost while it had the request and had not answered."""
        self._reservation: Reservation = UNLIMITED
        self._place: Place | None = None
        self._prefill: Prefill | None = None
        self._lease = None
        self._upstream = None
        self._answer: Answer | None = None
        self._relay: Relay | None = None
        self._last = 0.0
        self._ended = False

    # --- What the Exchange decides

    @abstractmethod
    def _fall_back(self) -> Place | None:
        """A place with another model that may answer instead."""

    @property
    @abstractmethod
    def _waits(self) -> bool:
        """There is a queue to wait in."""

    @abstractmethod
    def _wait_for_others(self) -> None:
        """Wait for a replica that can have it. Rejected where there is no queue, or no room in it."""

    @abstractmethod
    def _refuse(self, rejected: Rejected) -> None:
        """End with this error."""

    @abstractmethod
    def _end(self, code: int, reason: str, now: float | None = None) -> None:
        """Give everything back and tell the outcome, once. now: where the caller has just looked."""

    # --- Towards a replica

    def _take(self, place: Place) -> None:
        replica = self._occupy(place)
        if place.pool.prefill is not None and self._prefill is None:
            self._prefill = Prefill(self, self._shared, self._job, place.pool)
            self._prefill.start()
        else:
            self._reach(replica)

    def _occupy(self, place: Place) -> Replica:
        self._place, self._lease = place, place.lease
        replica = place.lease.replica
        self.tried += (replica,)
        return replica

    def prefilled(self) -> None:
        """The prompt is read, or is left to the replica that decodes."""
        self._reach(self.tried[-1])

    def _send(self, connection: Upstream) -> None:
        place = self._place
        assert place is not None
        self._upstream = connection
        self._last = self._shared.loop.time()
        body = self._body(place.pool)
        connection.send(self, request_head(self._job, connection.replica, len(body)), body)
        if self._client.write_paused:
            connection.pause_reading()

    def _body(self, pool: Pool) -> bytes:
        params = self._prefill.hand_over(pool) if self._prefill is not None else None
        return outgoing(self._job, pool, params)

    def _unreachable(self, why: str) -> None:
        self._again(_CONNECT, why)

    def _again(self, cause: str, why: str) -> None:
        """This replica did not do; take the next one, of another model where there must be."""
        self._failures[cause] = why
        self._let_go()
        place = self._next_place()
        if place is not None:
            self._move(cause, why, place)
            return
        _sparingly.warning("replica %s %s; no other has room (%s)", self.tried[-1].name, why, self._id())
        try:
            self._wait_for_others()
        except Rejected as rejected:
            self._refuse(rejected)
        else:
            self._shared.metrics.retries[cause] += 1

    def _next_place(self) -> Place | None:
        model, last = self._job.model, self.tried[-1:]
        return (
            model.place(self._job.affinity, last)
            or self._fall_back()
            or (None if self._waits else model.last_resort(self.tried))
        )

    def _move(self, cause: str, why: str, place: Place) -> None:
        """Away from this replica, to that place."""
        _sparingly.warning("replica %s %s; trying another (%s)", self.tried[-1].name, why, self._id())
        self._shared.metrics.retries[cause] += 1
        self._let_go()
        self._take(place)

    def _plainly(self, status: int) -> None:
        """Once more without transfer parameters: on another replica where there is one, or else on this."""
        self._shared.metrics.prefills[DECODE_REFUSED] += 1
        why = f"answered {status} to a prompt read elsewhere"
        place = self._job.model.place(self._job.affinity, self.tried)
        if place is not None:
            self._move(_TRANSFER, why, place)
            return
        connection, self._upstream = self._upstream, None
        assert connection is not None
        connection.abort()
        _sparingly.warning("replica %s %s; trying it again (%s)", self.tried[-1].name, why, self._id())
        self._shared.metrics.retries[_TRANSFER] += 1
        self._connect(self.tried[-1])

    def _id(self) -> str:
        return self._job.request_id.decode()
