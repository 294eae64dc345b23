"""A replica's answer on its way to the client: what becomes of it, whole or not.

The answer's head is held back until the first byte of its body, so that a replica that dies while it computes its first token
costs the client nothing: another one gets the request. What becomes of an answer that is cut after that is for Continuing to
say (`_cut`).
"""

import logging
from abc import abstractmethod
from typing import Final

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.client import Client
from tokenfleet.router.continuing.transcript import Transcript
from tokenfleet.router.delivery import DRAINING, FULL, LOST, STALE, Delivery
from tokenfleet.router.jobs import Job
from tokenfleet.router.rejections import UPSTREAM_INVALID, UPSTREAM_LOST, UPSTREAM_SILENT, Rejected
from tokenfleet.router.relay import Relay
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.answer import Answer

_sparingly: Final = Sparingly(logging.getLogger(__name__))
_ENGINE_DEAD: Final = b"EngineCore encountered an issue"
"""As vLLM's server says it, with 500, to all who waited for an answer of the process that computes."""


class Answering(Delivery):
    """Of one request."""

    __slots__ = ("_first_byte", "_gaps", "_stays")

    def __init__(self, client: Client, shared: Shared, job: Job) -> None:
        super().__init__(client, shared, job)
        self._first_byte: float | None = None
        self._stays = False
        """The answer's head has promised to keep the connection: a client may send its next request at once, so it is kept."""

    # --- What Continuing decides

    @abstractmethod
    def _transcript(self) -> Transcript | None:
        """Of an answer that begins, where another replica may go on with it."""

    @abstractmethod
    def _cut(self, why: str) -> None:
        """The replica is lost in the middle of its answer."""

    @abstractmethod
    def _goes_on(self, answer: Answer) -> None:
        """A replica answers that is to go on with a stream that was cut."""

    # --- Receiver of a replica's answer

    def answered(self, answer: Answer) -> None:
        replica = self.tried[-1]
        if answer.in_flight is not None:
            replica.reported(answer.in_flight)
        if self._relay is not None:
            self._goes_on(answer)
        elif answer.status < 500:
            if replica.paused:
                replica.reached(answered=True)
            self._answer = answer
        else:
            self._failed(answer, replica)

    def _failed(self, answer: Answer, replica: Replica) -> None:
        """The replica answers 5xx: perhaps another one does better."""
        if answer.fault:
            replica.failed("status")
        if answer.draining:
            replica.pause(drains=True)
            self._again(DRAINING, "is draining")
        elif answer.status == 503:
            replica.filled()
            self._refused_for_room(answer)
        elif self._prefill is not None and self._prefill.carried:
            self._plainly(answer.status)
        else:
            self._answer = answer

    def _refused_for_room(self, answer: Answer) -> None:
        why = "has no place for it"
        if (place := self._next_place()) is not None:
            self._move(FULL, why, place)
        elif self._waits:
            self._again(FULL, why)
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
            if complete and self._died(payload):
                return
            relay = self._begin(now)
            self._stays = self._keeps_alive()
            data = relay.head(self._job.request_id, self._reservation.lines, close=not self._stays)
            data += relay.body(payload, complete=complete)
        else:
            if relay.stream:
                self._gaps.observe(now - self._last)
            data = relay.body(payload, complete=complete)
        self._last = now
        if data:
            self._client.write(data)
        if relay.failed and relay.withheld:
            self.tried[-1].failed("engine")
            self.tried[-1].pause()
            self._cut("reported an error of its own")
        elif complete:
            self._complete(relay, now)

    def _died(self, payload: bytes) -> bool:
        """Whether a server whose engine has died says so, which has not ended itself yet: another one gets the request."""
        assert self._answer is not None
        if self._answer.status != 500 or _ENGINE_DEAD not in payload or self.losses + 1 >= self._shared.limits.losses:
            return False
        self.losses += 1
        self.tried[-1].failed("engine")
        self.tried[-1].pause()
        self._again(LOST, "reported that its engine has died")
        return True

    def _begin(self, now: float) -> Relay:
        """The first byte is here."""
        assert self._answer is not None
        job = self._job
        relay = self._relay = Relay(self._answer, job, self._transcript())
        self._first_byte = now - job.received
        if relay.stream:
            pool = self._place.pool  # type: ignore[union-attr]
            self._gaps = self._shared.metrics.of(job.model.name).track(pool.name, pool.track).gaps
            target = job.model.terms.shedding.ttft_milliseconds
            if target is not None:
                job.model.load.first_token(now - self._last, target=target / 1000)
        if relay.transcript is None:
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
        self._client.finish(keep_alive=self._stays)

    def lost(self, why: str) -> None:
        connection = self._upstream
        assert connection is not None
        replica = connection.replica
        begun = self._relay is not None and self._answer is not None
        stale = connection.reused and not begun and STALE not in self._failures
        if not stale:
            replica.failed(LOST)
            replica.pause()
            if self._relay is not None:
                self._cut(why)
                return
        self.losses += 1
        if self.losses >= self._shared.limits.losses:
            self._upstream = None
            self._fail(Rejected(UPSTREAM_LOST, f"{self.losses} replicas were lost while they had this request."), why)
        elif stale:
            self._upstream = None
            self._failures[STALE] = why
            self._shared.metrics.retries[STALE] += 1
            self._connect(replica)
        else:
            self._again(LOST, why)

    def silent(self) -> None:
        self.tried[-1].failed("stall")
        self.tried[-1].pause()
        limits = self._shared.limits
        why = f"sent nothing for {limits.silence_seconds if self._relay is not None else limits.first_byte_seconds:g} s"
        if self._relay is not None:
            self._cut(why)
        else:
            self._fail(Rejected(UPSTREAM_SILENT, f"The model's replica {why}."), why)

    def invalid(self, why: str) -> None:
        self.tried[-1].failed("invalid")
        if self._relay is not None:
            self._cut(f"sent an invalid answer: {why}")
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
        self._end(relay.answer.status, metrics.ENGINE_ERROR if relay.failed else metrics.TRUNCATED)
        if relay.stream:
            self._client.close()
        else:
            self._client.abort()

    def _fail(self, rejected: Rejected, why: str) -> None:
        _sparingly.warning("replica %s %s; giving up (%s)", self.tried[-1].name, why, self._id())
        self._refuse(rejected)
