"""The replicas' side of a request: given to one, to the next while its client has seen no byte, and the answer relayed.

States change synchronously, by what `Upstream` and the client's connection call. The answer's head is held back until the first
byte of its body, so that a replica that dies while it computes its first token costs the client nothing. After the first byte
there is no second try: relay.py ends the answer so that it cannot look whole. Where the next place comes from, and what an end
gives back, is for the Exchange to say.
"""

import logging
from abc import abstractmethod
from typing import Final

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.callers.rates import UNLIMITED, Reservation
from tokenfleet.router.client import Client
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Place
from tokenfleet.router.prefill import DECODE_REFUSED, Prefill
from tokenfleet.router.rejections import UPSTREAM_INVALID, UPSTREAM_LOST, UPSTREAM_SILENT, Rejected
from tokenfleet.router.relay import Relay, outgoing
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.shared import Shared
from tokenfleet.router.visit import Visit, request_head
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream

_sparingly: Final = Sparingly(logging.getLogger(__name__))

DRAINING: Final = "draining"
_STALE, _LOST, _CONNECT, _FULL, _TRANSFER = "stale_connection", "lost", "connect", "full", "transfer"
"""Why a request was given to a replica again; labels of a metric, too."""


class Delivery(Visit):
    """Of one request."""

    __slots__ = (
        *("_answer", "_client", "_failures", "_first_byte", "_gaps", "_last", "_place", "_prefill", "_relay"),
        *("_reservation", "losses", "tried"),
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
        self._first_byte: float | None = None
        self._last = 0.0
        self._ended = False

    # --- What the Exchange decides

    @abstractmethod
    def _fall_back(self) -> Place | None:
        """A place with another model that may answer instead."""

    @abstractmethod
    def _wait_for_others(self) -> None:
        """Wait for a replica that it has not been to. Rejected where there is none, or no room in the queue."""

    @abstractmethod
    def _refuse(self, rejected: Rejected) -> None:
        """End with this error."""

    @abstractmethod
    def _end(self, code: int, reason: str, now: float | None = None) -> None:
        """Give everything back and tell the outcome, once. now: where the caller has just looked."""

    # --- Towards a replica

    def _take(self, place: Place) -> None:
        self._place, self._lease = place, place.lease
        replica = place.lease.replica
        self.tried += (replica,)
        if place.pool.prefill is not None and self._prefill is None:
            self._prefill = Prefill(self, self._shared, self._job, place.pool)
            self._prefill.start()
        else:
            self._reach(replica)

    def prefilled(self) -> None:
        """The prompt is read, or is left to the replica that decodes."""
        self._reach(self.tried[-1])

    def _send(self, connection: Upstream) -> None:
        job, place = self._job, self._place
        assert place is not None
        self._upstream = connection
        self._last = self._shared.loop.time()
        params = self._prefill.hand_over(place.pool) if self._prefill is not None else None
        body = outgoing(job, place.pool, params)
        connection.send(self, request_head(job, connection.replica, len(body)), body)
        if self._client.write_paused:
            connection.pause_reading()

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

    def _next_place(self) -> Place | None:
        return self._job.model.place(self._job.affinity, self.tried) or self._fall_back()

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

    # --- Receiver of a replica's answer

    def answered(self, answer: Answer) -> None:
        replica = self.tried[-1]
        if answer.in_flight is not None:
            replica.reported(answer.in_flight)
        if answer.status < 500:
            self._answer = answer
        else:
            self._failed(answer, replica)

    def _failed(self, answer: Answer, replica: Replica) -> None:
        """The replica answers 5xx: perhaps another one does better."""
        if answer.fault:
            replica.failed("status")
        if answer.draining:
            self._again(DRAINING, "is draining")
        elif answer.status == 503 and (place := self._next_place()) is not None:
            self._move(_FULL, "has no place for it", place)
        elif answer.status != 503 and self._prefill is not None and self._prefill.carried:
            self._plainly(answer.status)
        else:
            self._answer = answer

    def received(self, payload: bytes, *, complete: bool) -> None:
        now = self._shared.loop.time()
        relay = self._relay
        if complete:
            self._upstream = None  # It has gone back to the spare ones, or has ended.
        if relay is None:
            if not payload and not complete:
                return
            relay = self._begin(now)
            data = relay.head(self._job.request_id, self._reservation.lines, close=not self._keeps_alive())
            data += relay.body(payload, complete=complete)
        else:
            if relay.stream:
                self._gaps.observe(now - self._last)
            data = relay.body(payload, complete=complete)
        self._last = now
        if data:
            self._client.write(data)
        if complete:
            self._complete(relay, now)

    def _begin(self, now: float) -> Relay:
        """The first byte is here: there is no second try from now on."""
        assert self._answer is not None
        job = self._job
        relay = self._relay = Relay(self._answer, job)
        self._first_byte = now - job.received
        if relay.stream:
            self._gaps = self._shared.metrics.of(job.model.name).gaps
            target = job.model.terms.shedding.ttft_milliseconds
            if target is not None:
                job.model.load.first_token(now - self._last, target=target / 1000)
        job.body = b""
        self._client.release_body()
        return relay

    def _complete(self, relay: Relay, now: float) -> None:
        status = relay.answer.status
        if relay.stream and relay.failed:
            self._end(status, metrics.ENGINE_ERROR)
            self._client.close()
            return
        if status < 500:
            self.tried[-1].succeeded()
        self._end(status, metrics.RELAYED, now)
        self._client.finish(keep_alive=self._keeps_alive())

    def lost(self, why: str) -> None:
        connection = self._upstream
        assert connection is not None
        replica = connection.replica
        if self._relay is not None:
            replica.failed(_LOST)
            self._truncate(why)
            return
        self.losses += 1
        stale = connection.reused and _STALE not in self._failures
        if not stale:
            replica.failed(_LOST)
        if self.losses >= self._shared.limits.losses:
            self._upstream = None
            self._fail(Rejected(UPSTREAM_LOST, f"{self.losses} replicas were lost while they had this request."), why)
        elif stale:
            self._upstream = None
            self._failures[_STALE] = why
            self._shared.metrics.retries[_STALE] += 1
            self._connect(replica)
        else:
            self._again(_LOST, why)

    def silent(self) -> None:
        self.tried[-1].failed("stall")
        limits = self._shared.limits
        why = f"sent nothing for {limits.silence_seconds if self._relay is not None else limits.first_byte_seconds:g} s"
        if self._relay is not None:
            self._truncate(why)
        else:
            self._fail(Rejected(UPSTREAM_SILENT, f"The model's replica {why}."), why)

    def invalid(self, why: str) -> None:
        self.tried[-1].failed("invalid")
        if self._relay is not None:
            self._truncate(f"sent an invalid answer: {why}")
        else:
            self._fail(Rejected(UPSTREAM_INVALID, f"The model's replica gave an invalid answer: {why}."), why)

    # --- Towards the client

    def _keeps_alive(self) -> bool:
        return self._job.request.keep_alive and not self._shared.leaving

    def _truncate(self, why: str) -> None:
        """The replica is lost in the middle of its answer, and the client must be able to tell."""
        relay = self._relay
        assert relay is not None
        _sparingly.warning("replica %s %s in the middle of an answer (%s)", self.tried[-1].name, why, self._id())
        if relay.stream:
            words = "The model's replica was lost in the middle of this answer; it is not whole."
            self._client.write(relay.broken(Rejected(UPSTREAM_LOST, words)))
        self._end(relay.answer.status, metrics.TRUNCATED)
        if relay.stream:
            self._client.close()
        else:
            self._client.abort()

    def _fail(self, rejected: Rejected, why: str) -> None:
        _sparingly.warning("replica %s %s; giving up (%s)", self.tried[-1].name, why, self._id())
        self._refuse(rejected)
