"""One request on its way: reserve, take a place or wait for one, send, relay the answer; elsewhere again while its client has
seen no byte.

States change synchronously, by what limits, queue, `Upstream` and the client's connection call. The place in the queue, the
lease, the connection upstream and the reservation are given back in `_let_go` and `_end` alone, and the outcome is told in
`_end` alone. The answer's head is held back until the first byte of its body, so that a replica that dies while it computes
its first token costs the client nothing. After the first byte there is no second try: relay.py ends the answer so that it
cannot look whole.
"""

import asyncio
import logging
from typing import Final, Protocol

from tokenfleet.router.balancing.replicas import Lease, Replica
from tokenfleet.router.callers.rates import Reservation, applied
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Place, Waiter
from tokenfleet.router.prefill import DECODE_REFUSED, Prefill
from tokenfleet.router.queue.waiting import Ticket
from tokenfleet.router.rejections import (
    ALL_DRAINING,
    UNREACHABLE,
    UPSTREAM_INVALID,
    UPSTREAM_LOST,
    UPSTREAM_SILENT,
    Rejected,
)
from tokenfleet.router.relay import Relay, outgoing
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.reporting.record import Record
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream

log = logging.getLogger(__name__)
_sparingly: Final = Sparingly(log)

_STALE, _LOST, _CONNECT, _DRAINING, _FULL = "stale_connection", "lost", "connect", "draining", "full"
_TRANSFER: Final = "transfer"
_GATEWAY: Final = frozenset((502, 503, 504))
"""Answers that only something broken gives, since an engine is nobody's gateway; a 503 with Retry-After is overload, and no
fault."""


class Client(Protocol):
    """Who the answer is for."""

    @property
    def write_paused(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def release_body(self) -> None:
        """The request's body is not needed any more."""

    def finish(self, *, keep_alive: bool) -> None:
        """The answer is written whole."""

    def refuse(self, rejected: Rejected, *, request_id: bytes) -> None:
        """Nothing was written: answer with this error."""

    def close(self) -> None:
        """Send what is written, then close."""

    def abort(self) -> None: ...


class Exchange:
    """A request and its answer."""

    __slots__ = (
        *("_answer", "_client", "_connecting", "_ended", "_failures", "_first_byte", "_gaps", "_job", "_last", "_lease"),
        *("_place", "_prefill", "_queued", "_relay", "_reservation", "_shared", "_ticket", "_upstream", "losses", "tried"),
    )

    def __init__(self, client: Client, shared: Shared, job: Job) -> None:
        self._client = client
        self._shared = shared
        self._job = job
        self.tried: tuple[Replica, ...] = ()
        self._failures: dict[str, str] = {}
        self.losses = 0
        """How often a replica was lost while it had the request and had not answered."""
        self._reservation: Reservation | None = None
        self._ticket: Ticket[Waiter] | None = None
        self._queued = 0.0
        self._place: Place | None = None
        self._prefill: Prefill | None = None
        self._lease: Lease | None = None
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._relay: Relay | None = None
        self._first_byte: float | None = None
        self._last = 0.0
        self._ended = False

    # --- Verbs of the client

    def start(self) -> None:
        """Begin: with what the caller's limits say."""
        job = self._job
        rate = applied(job.key.rate, job.model.terms.limits)
        self._shared.rates.reserve(job.key.name, rate, job.tokens, self._reserved)

    def cancel(self, reason: str) -> None:
        """The client is gone, or is let go: so is the request, at once, on the replica too. Harmless after its end."""
        if not self._ended:
            self._end(metrics.CODE_CLIENT_GONE, reason)

    def pause_reading(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_reading(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()

    # --- Limits, and the queue

    def _reserved(self, result: Reservation | Rejected) -> None:
        if isinstance(result, Rejected):
            if not self._ended:
                self._refuse(result)
        elif self._ended:
            result.cancel()
        else:
            self._reservation = result
            self.enter()

    def enter(self) -> None:
        """Take a place, or wait for one behind those that already do. Begin with this where limits were asked before."""
        job = self._job
        model = job.model
        queue = model.queue
        try:
            self._shared.shedder.check(queue, model.load, model.terms.shedding, job.key.priority, job.flow)
            if not queue.depth and (place := model.place(job.affinity, ())) is not None:
                self._take(place)
            elif not self._fall_back():
                self._wait()
        except Rejected as rejected:
            self._refuse(rejected)

    def _wait(self) -> None:
        if self._shared.leaving:
            raise self._shared.goodbye()
        job = self._job
        self._ticket = job.model.join(self, priority=job.key.priority, flow=job.flow)

    def _fall_back(self) -> bool:
        """Whether another model has a place for it now."""
        job = self._job
        for name in job.model.fallbacks:
            model = self._shared.catalog.get(name)
            if model is not None and not model.queue.depth and (place := model.place(job.affinity, ())) is not None:
                job.model = model
                self._take(place)
                return True
        return False

    @property
    def affinity(self) -> int | None:
        return self._job.affinity

    def granted(self, place: Place) -> None:
        """A place, after a while in the queue."""
        self._ticket = None
        self._queued = self._shared.loop.time() - self._job.received
        self._take(place)

    def evicted(self, rejected: Rejected) -> None:
        """No place in time."""
        self._ticket = None
        self._queued = self._shared.loop.time() - self._job.received
        self._refuse(rejected)

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
        assert self._lease is not None
        self._reach(self._lease.replica)

    def _reach(self, replica: Replica) -> None:
        connection = self._shared.upstreams.take(replica)
        if connection is None:
            self._connect(replica)
        else:
            self._send(connection)

    def _connect(self, replica: Replica) -> None:
        self._connecting = self._shared.loop.create_task(self._connect_and_send(replica))

    async def _connect_and_send(self, replica: Replica) -> None:
        try:
            connection = await self._shared.upstreams.connect(replica)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request must go on to its end
            if not self._ended:
                replica.failed(_CONNECT)
                self._again(_CONNECT, "cannot be reached: " + (str(error) or "the connection timed out"))
            return
        if self._ended:
            self._shared.upstreams.keep(connection)
        else:
            self._send(connection)

    def _send(self, connection: Upstream) -> None:
        job, place = self._job, self._place
        assert place is not None
        self._upstream = connection
        self._last = self._shared.loop.time()
        params = self._prefill.hand_over(place.pool) if self._prefill is not None else None
        body = outgoing(job, place.pool, params)
        request = job.request
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            request.route.path,
            connection.replica.authority,
            request.fields,
            job.request_id,
            len(body),
        )
        connection.send(self, head, body)
        if self._client.write_paused:
            connection.pause_reading()

    def _again(self, cause: str, why: str) -> None:
        """This replica did not do; take the next one."""
        self._failures[cause] = why
        self._let_go()
        place = self._job.model.place(self._job.affinity, self.tried)
        if place is not None:
            self._move(cause, why, place)
            return
        _sparingly.warning("replica %s %s; no other has room (%s)", self.tried[-1].name, why, self._id())
        try:
            if not self._job.model.has_other(self.tried):
                raise self._why_none()
            self._wait()
        except Rejected as rejected:
            self._refuse(rejected)

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

    def _why_none(self) -> Rejected:
        if self._failures.keys() == {_DRAINING}:
            return Rejected(ALL_DRAINING, "All replicas of this model are going away. Try again soon.")
        names = ", ".join(f"{replica.name}" for replica in self.tried[:5])
        return Rejected(UNREACHABLE, f"No replica of this model could take the request (tried: {names}).")

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
        if answer.status in _GATEWAY and not answer.draining and not answer.retry_after:
            replica.failed("status")
        if answer.draining:
            self._again(_DRAINING, "is draining")
        elif answer.status == 503 and (place := self._job.model.place(self._job.affinity, self.tried)) is not None:
            self._move(_FULL, "has no place for it", place)
        elif answer.status >= 500 and answer.status != 503 and self._prefill is not None and self._prefill.carried:
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
            data = relay.head(self._job.request_id, self._lines(), close=not self._keeps_alive())
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
            self.tried[-1].conduct.succeeded()
        self._end(status, metrics.RELAYED, now)
        self._client.finish(keep_alive=self._job.request.keep_alive and not self._shared.leaving)

    def lost(self, why: str) -> None:
        connection = self._upstream
        assert connection is not None and self._lease is not None
        replica = self._lease.replica
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

    def _lines(self) -> bytes:
        return self._reservation.lines if self._reservation is not None else b""

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

    def _refuse(self, rejected: Rejected) -> None:
        rejected.lines = rejected.lines or self._lines()
        self._end(rejected.kind.status, rejected.kind.reason)
        self._client.refuse(rejected, request_id=self._job.request_id)

    # --- Ends

    def _let_go(self) -> None:
        """Give back what is held of the replica. A connection that is not detached before is in the middle of an answer."""
        if self._upstream is not None:
            connection, self._upstream = self._upstream, None
            connection.abort()
        if self._lease is not None:
            lease, self._lease = self._lease, None
            lease.release()

    def _end(self, code: int, reason: str, now: float | None = None) -> None:
        """Give everything back and tell the outcome, once. now: where the caller has just looked."""
        self._ended = True
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self._job.model.queue.leave(ticket)
        if self._prefill is not None:
            self._prefill.cancel()
        self._let_go()
        relay = self._relay
        usage = relay.usage if relay is not None else None
        if self._reservation is not None:
            reservation, self._reservation = self._reservation, None
            # What was used counts; what was refused before an engine had it costs nothing; what is unknown stays as estimated.
            if usage is not None:
                reservation.settle(usage.prompt + usage.completion)
            elif relay is None or relay.answer.status >= 400:
                reservation.cancel()
        shared, job, tried = self._shared, self._job, self.tried
        request = job.request
        shared.journal.ended(
            Record(  # In the order of its fields: names would cost half as much again.
                job.request_id,
                request.route.path,
                job.model.name,
                job.key.name,
                code,
                reason,
                job.fields.stream is True,
                tried[-1].seen.name if tried else "",
                len(tried),
                self._queued,
                self._prefill.seconds if self._prefill is not None else 0.0,
                self._first_byte,
                (shared.loop.time() if now is None else now) - job.received,
                usage.prompt if usage is not None else None,
                usage.completion if usage is not None else None,
                request.traceparent,
            )
        )
