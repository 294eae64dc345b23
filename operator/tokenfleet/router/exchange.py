"""One request from its entrance to its end: reserve, take a place or wait for one, have it delivered, account for it.

The replicas' side is Delivery's; here stand the caller's limits, the queue and the fallbacks, and the end. The place in the
queue, the lease, the connection upstream and the reservation are given back in `_let_go` and `_end` alone, and the outcome is
told in `_end` alone.
"""

from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.callers.rates import Reservation, applied
from tokenfleet.router.client import Client
from tokenfleet.router.continuing.continuing import NO_REPLICA, Continuing
from tokenfleet.router.delivery import DRAINING
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Model, Place, Waiter
from tokenfleet.router.queue.waiting import Ticket
from tokenfleet.router.rejections import ALL_DRAINING, LEAVING, UNREACHABLE, Rejected
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.record import Record
from tokenfleet.router.shared import Shared


class Exchange(Continuing):
    """A request and its answer."""

    __slots__ = ("_joined", "_queued", "_ticket")

    def __init__(self, client: Client, shared: Shared, job: Job) -> None:
        super().__init__(client, shared, job)
        self._ticket: Ticket[Waiter] | None = None
        self._joined = self._queued = 0.0

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

    # --- Limits, and a place

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
            place = model.place(job.affinity) if not queue.depth else None
            if place is None:
                self._shared.news.unplaced(model)
                place = self._fall_back() or (None if self._waits else model.last_resort(()))
            if place is not None:
                self._take(place)
            else:
                self._wait()
        except Rejected as rejected:
            self._refuse(rejected)

    @property
    def _asked(self) -> Model:
        """The model that the client asked for, whichever has the request now."""
        return self._shared.catalog.get(self._job.fields.model) or self._job.model

    def _fall_back(self) -> Place | None:
        """A place with another model, which answers then. Only those of the model that was asked for are tried."""
        job = self._job
        for name in self._asked.fallbacks:
            model = self._shared.catalog.get(name)
            if model is not None and not model.queue.depth and (place := model.place(job.affinity)) is not None:
                job.model = model
                return place
        return None

    # --- The queue

    @property
    def _waits(self) -> bool:
        return self._asked.terms.queue.max_depth > 0

    def _wait(self) -> None:
        if self._shared.leaving:
            raise self._shared.goodbye()
        self._join(self._job.key.priority)

    def _wait_for_others(self) -> None:
        self._shared.news.unplaced(self._job.model)
        if self._sequel is not None:
            self._wait_to_go_on()
            return
        self._job.model = self._asked
        if not self._waits:
            raise self._why_none()
        self._wait()

    def _wait_to_go_on(self) -> None:
        """Before all that have not begun, and also while this router leaves: no other one could go on."""
        if not self._job.model.terms.queue.max_depth:
            raise self._why_none()
        self._join(Priority.HIGH)

    def _join(self, priority: Priority) -> None:
        """At the end of the queue at first, and before the others where its place came to nothing."""
        job = self._job
        self._ticket = job.model.join(self, priority=priority, flow=job.flow, since=self._since)
        self._joined = self._shared.loop.time()
        if self._since is None:
            self._since = self._shared.deadlines.now()

    def _why_none(self) -> Rejected:
        if self._failures.keys() == {DRAINING}:
            return Rejected(ALL_DRAINING, "All replicas of this model are going away. Try again soon.")
        names = ", ".join(f"{replica.name}" for replica in self.tried[:5])
        return Rejected(UNREACHABLE, f"No replica of this model could take the request (tried: {names}).")

    @property
    def affinity(self) -> int | None:
        return self._job.affinity

    def granted(self, place: Place) -> None:
        """A place, after a while in the queue."""
        self._leave()
        self._take(place)

    def evicted(self, rejected: Rejected) -> None:
        """No place in time."""
        self._leave()
        if rejected.kind is LEAVING and self._sequel is not None:
            self._join(Priority.HIGH)
        else:
            self._refuse(rejected)

    def _leave(self) -> None:
        self._ticket = None
        self._queued += self._shared.loop.time() - self._joined

    # --- Ends

    def _refuse(self, rejected: Rejected) -> None:
        if self._relay is not None:
            self._give_up(rejected.message, NO_REPLICA)
            return
        rejected = rejected.carrying(self._reservation.lines)
        self._end(rejected.kind.status, rejected.kind.reason)
        self._client.refuse(rejected, request_id=self._job.request_id)

    def _end(self, code: int, reason: str, now: float | None = None) -> None:
        self._ended = True
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self._job.model.queue.leave(ticket)
        if self._prefill is not None:
            self._prefill.cancel()
        if self._count is not None:
            self._count.cancel()
        self._let_go()
        relay = self._relay
        usage = relay.usage if relay is not None else None
        # What was used counts; what was refused before an engine had it costs nothing; what is unknown stays as estimated.
        if usage is not None:
            self._reservation.settle(usage.total)
        elif relay is None or relay.answer.status >= 400:
            self._reservation.cancel()
        shared, job, tried = self._shared, self._job, self.tried
        request, pool = job.request, self._place.pool if self._place is not None else None
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
                pool.name if pool is not None else "",
                pool.track if pool is not None else "",
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
