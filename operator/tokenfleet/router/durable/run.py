"""One claimed request while it runs: the client of an Exchange that keeps the answer instead of sending it anywhere.

An Exchange speaks to it as to a connection. When it is over, `ended` is called once with what is to be done about the claim: an
Outcome to store, or an Again. What is refused for want of a place, or of a replica, costs the request none of its tries; what
may be the request's own doing (a replica was lost with it, or answered 5xx) costs one.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from tokenfleet.router import fields, routes
from tokenfleet.router.callers.keys import Key, Priority
from tokenfleet.router.durable.requests import Claim, Outcome, Reserved, State
from tokenfleet.router.exchange import Exchange
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Model
from tokenfleet.router.rejections import MODEL_NOT_FOUND, Rejected
from tokenfleet.router.reporting import metrics
from tokenfleet.router.shared import Shared
from tokenfleet.router.usage import Usage, find_usage
from tokenfleet.router.wire.request import Request

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
_BACKOFF_SECONDS: Final = 1.0
"""After a first failure; doubled with each that follows."""
_BUSY_SECONDS: Final = 1
_BUSY: Final = (429, 503)
"""Answers of an engine that has no room."""
FLOW: Final = "async"
"""Of all such requests together, in a model's queue."""


class Again(msgspec.Struct, frozen=True):
    """Another try is to follow."""

    seconds: float
    """To wait before."""
    counts: bool
    """This try was one of those that the request has."""
    failure: str


class Run:
    """Of one claim."""

    __slots__ = ("_ended", "_exchange", "_held", "_job", "_parts", "_reserved", "_shared", "_size", "_status", "claim", "model")

    write_paused = False

    def __init__(self, shared: Shared, model: Model, claim: Claim, ended: Callable[["Run", Outcome | Again], None]) -> None:
        self._shared = shared
        self.model = model
        self.claim = claim
        self._ended: Callable[[Run, Outcome | Again], None] | None = ended
        self._reserved = msgspec.json.decode(claim.reserved, type=Reserved)
        self._held = len(claim.body)
        self._parts: list[bytes] = []
        self._size = 0
        self._status = 0
        self._job = _job(shared, model, claim)
        self._exchange = Exchange(self, shared, self._job)

    def start(self) -> None:
        self._shared.held_bytes += self._held
        self._exchange.enter()

    def abandon(self, reason: str) -> None:
        """The claim is lost or given back: the engine need not go on. `ended` is not called."""
        if self._ended is not None:
            self._ended = None
            self._exchange.cancel(reason)
            self.release_body()

    @property
    def answered(self) -> bool:
        """It is over; what follows is for Redis to take."""
        return self._ended is None

    # --- Client of an exchange

    def write(self, data: bytes) -> None:
        if not self._status:
            head, _, data = data.partition(b"\r\n\r\n")
            self._status = int(head[9:12])
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            words = f"The answer is larger than the {MAX_ANSWER_BYTES} bytes that are kept of one."
            exchange = self._exchange
            self._end(Outcome(State.FAILED, 0, "", b"", "answer_too_large", words))
            exchange.cancel(metrics.CLIENT_GONE)

    def release_body(self) -> None:
        self._shared.held_bytes -= self._held
        self._held = 0

    def finish(self, *, keep_alive: bool) -> None:
        body, status = b"".join(self._parts), self._status
        failure = f"a replica answered with {status}."
        if status in _BUSY:
            self._end(self._later(failure, None))
            return
        if status >= 500 or status == 408:
            self._end(self._again(failure))
            return
        self._settle(find_usage(body) if status < 400 else None, status)
        self._end(_outcome(status, body, self._job.request_id.decode()))

    def refuse(self, rejected: Rejected, *, request_id: bytes) -> None:
        kind = rejected.kind
        if kind.status >= 500 and (kind.status != 503 or self._exchange.losses):
            self._end(self._again(rejected.message))
        elif kind.status == 503 or kind is MODEL_NOT_FOUND:
            self._end(self._later(rejected.message, rejected.retry_after))
        else:
            self._end(Outcome(State.FAILED, kind.status, "", rejected.body(), kind.reason, rejected.message))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._end(self._again("a replica was lost in the middle of its answer."))

    # --- Ends

    @property
    def _visibility(self) -> float:
        return float(self.model.terms.asynchronous.visibility_seconds)

    def _again(self, failure: str) -> Again:
        return Again(min(_BACKOFF_SECONDS * 2 ** (self.claim.tries - 1), self._visibility), True, failure)

    def _later(self, failure: str, seconds: int | None) -> Again:
        return Again(min(float(seconds or _BUSY_SECONDS), self._visibility), False, failure)

    def _settle(self, used: Usage | None, status: int) -> None:
        """What the answer used counts for its owner's limits; what an engine refused does not count at all."""
        reserved, correct = self._reserved, self._shared.rates.correct
        if used is not None:
            correct(self.claim.owner, reserved.rate, 0, used.total - reserved.tokens)
        elif status >= 400:
            correct(self.claim.owner, reserved.rate, -1, -reserved.tokens)

    def _end(self, verdict: Outcome | Again) -> None:
        ended, self._ended = self._ended, None
        self.release_body()
        self._parts = []
        if ended is not None:
            ended(self, verdict)


def _job(shared: Shared, model: Model, claim: Claim) -> Job:
    """The request again as it was admitted, but of the lowest priority."""
    request = Request(
        route=routes.find(b"POST", claim.path),
        http10=True,  # So that its answer comes without chunks.
        keep_alive=False,
        length=len(claim.body),
        chunked=False,
        expects_continue=False,
        fields=claim.headers,
    )
    return Job(
        request=request,
        request_id=shared.request_id(),
        body=claim.body,
        fields=fields.read(claim.body),
        model=model,
        key=Key(claim.owner, priority=Priority.LOW),
        flow=FLOW,
        tokens=0,
        affinity=None,
        received=shared.loop.time(),
    )


class _EngineError(msgspec.Struct):
    message: str = ""
    code: str | int | None = None
    type: str | None = None


class _EngineErrors(msgspec.Struct):
    error: _EngineError


def _outcome(status: int, body: bytes, request_id: str) -> Outcome:
    if status < 400:
        return Outcome(State.SUCCEEDED, status, request_id, body)
    try:
        error = msgspec.json.decode(body, type=_EngineErrors).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _EngineError()
    code = error.code if isinstance(error.code, str) and error.code else error.type or f"http_{status}"
    return Outcome(State.FAILED, status, request_id, body, code, error.message or f"The engine answered with {status}.")
