"""The first half of a request in a disaggregated deployment: a prefill replica reads the prompt and keeps its KV cache.

What it answers with, the transfer parameters, is all that the decode replica needs to fetch that cache. A prefill never costs
a request: whatever goes wrong, there are no parameters and the decode replica reads the prompt itself. They only ever come from
here, and go out once: what a replica that failed made of them nobody knows, and the blocks may be another prompt's by then.
"""

from typing import Final, Protocol

import msgspec

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Pool
from tokenfleet.router.shared import Shared
from tokenfleet.router.transfers import question, transfer_params
from tokenfleet.router.visit import Visit, request_head
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream

TRANSFERRED: Final = "transferred"
UNSUITED: Final = "unsuited"
"""The request is short, or of a kind that vLLM cannot transfer."""
NO_REPLICA: Final = "no_replica"
UNREACHABLE: Final = "unreachable"
LOST: Final = "lost"
TOO_LATE: Final = "too_late"
REFUSED: Final = "refused"
"""The prefill replica answered with an error, which the decode replica will give in its own words."""
UNUSABLE: Final = "unusable"
"""It answered, but not with transfer parameters."""
DECODE_REFUSED: Final = "decode_refused"
"""The decode replica answered 5xx to a request that had them; it was sent again without."""

LARGEST_BYTES: Final = 4 * 1024 * 1024
"""Of an answer: 16 tokens of a prompt take up to ten bytes."""


class Owner(Protocol):
    """Who is to decode."""

    def prefilled(self) -> None:
        """Go on, with what `hand_over` gives. Called once."""


class Prefill(Visit):
    """One of them. `cancel` ends it without a word."""

    __slots__ = (
        *("_body", "_owner", "_params", "_parts", "_pool", "_size", "_stale", "_started", "_tried", "carried", "seconds"),
    )

    def __init__(self, owner: Owner, shared: Shared, job: Job, pool: Pool) -> None:
        self._owner = owner
        self._shared = shared
        self._job = job
        self._pool = pool
        self._body = b""
        self._params: msgspec.Raw | None = None
        self._started = 0.0
        self.seconds = 0.0
        """What it took."""
        self.carried = False
        """The request went out with transfer parameters."""
        self._tried: tuple[Replica, ...] = ()
        self._lease = None
        self._upstream = None
        self._parts: list[bytes] = []
        self._size = 0
        self._stale = False
        self._ended = False

    def start(self) -> None:
        """Ask a prefill replica, where the request is one for it."""
        self._started = self._shared.deadlines.now()
        body = question(self._job, self._pool)
        if body is None:
            self._end(UNSUITED)
        else:
            self._body = body
            self._next(NO_REPLICA)

    def hand_over(self, pool: Pool) -> msgspec.Raw | None:
        """The transfer parameters, for a replica of this pool: once, to its own pool, and only while the blocks are kept."""
        params, self._params = self._params, None
        age = self._shared.deadlines.now() - self._started - self.seconds
        self.carried = params is not None and pool is self._pool and age <= self._shared.limits.transfer_seconds
        return params if self.carried else None

    def cancel(self) -> None:
        """Nobody needs it any more; the replica stops, and frees what it has. Harmless after the end."""
        if not self._ended:
            self._ended = True
            self._let_go()

    # --- Towards a replica

    def _next(self, cause: str) -> None:
        """cause: why there was no prefill, if there is no other replica."""
        self._let_go()
        pool, affinity = self._pool, self._job.affinity
        lease = pool.prefill.lease(self._tried, affinity, pool.adapter) if pool.prefill is not None else None
        if lease is None:
            self._end(cause)
            return
        self._lease = lease
        self._tried += (lease.replica,)
        self._reach(lease.replica)

    def _send(self, connection: Upstream) -> None:
        self._upstream = connection
        connection.send(self, request_head(self._job, connection.replica, len(self._body)), self._body)
        connection.deadline = self._shared.deadlines.after(self._shared.limits.prefill_seconds)

    def _unreachable(self, why: str) -> None:
        self._next(UNREACHABLE)

    # --- Receiver of its answer

    def answered(self, answer: Answer) -> None:
        replica = self._tried[-1]
        if answer.in_flight is not None:
            replica.reported(answer.in_flight)
        if answer.fault:
            replica.failed("status")
        if answer.draining:
            replica.pause(drains=True)
            self._next(NO_REPLICA)
        elif answer.status == 503:
            replica.filled()
            self._next(REFUSED)
        elif answer.status != 200:
            self._end(REFUSED)
        elif replica.paused:
            replica.reached(answered=True)

    def received(self, payload: bytes, *, complete: bool) -> None:
        self._size += len(payload)
        if complete:
            self._upstream = None  # It has gone back to the spare ones, or has ended.
        if self._size > LARGEST_BYTES:
            self._end(UNUSABLE)
            return
        self._parts.append(payload)
        if complete:
            self._tried[-1].succeeded()
            params = transfer_params(b"".join(self._parts))
            self._end(UNUSABLE if params is None else TRANSFERRED, params)

    def lost(self, why: str) -> None:
        """A prompt that ends replicas is not given to the next one."""
        connection, self._upstream = self._upstream, None
        assert connection is not None
        if connection.reused and not self._stale:
            self._stale = True
            self._connect(connection.replica)
        else:
            connection.replica.failed("lost")
            connection.replica.pause()
            self._end(LOST)

    def silent(self) -> None:
        self._upstream = None
        self._tried[-1].failed("stall")
        self._end(TOO_LATE)

    def invalid(self, why: str) -> None:
        self._upstream = None
        self._tried[-1].failed("invalid")
        self._end(UNUSABLE)

    # --- Ends

    def _end(self, result: str, params: msgspec.Raw | None = None) -> None:
        self._ended = True
        self._params = params
        self._body, self._parts = b"", []
        self.seconds = self._shared.deadlines.now() - self._started
        self._let_go()
        self._shared.metrics.prefills[result] += 1
        self._owner.prefilled()
