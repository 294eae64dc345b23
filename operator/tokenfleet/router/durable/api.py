"""The durable queue's face: POST answers 202 when Redis has the request, GET tells its state and result, DELETE cancels it.

A request is admitted like any other (key, model, bounds, limits), and refused here and now where it may not come in. Whoever
asks for a request that is another key's gets the same 404 as for one that never was. The client may leave at any time: what it
asked for is done all the same, and it can ask again by id, or by its idempotency key.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Coroutine
from hashlib import sha256
from typing import Any, Final

import msgspec

from tokenfleet.router import routes
from tokenfleet.router.admission import admit
from tokenfleet.router.callers.keys import Key
from tokenfleet.router.callers.rates import Reservation, applied
from tokenfleet.router.client import Client
from tokenfleet.router.durable.answers import accepted, shown
from tokenfleet.router.durable.requests import KeyReused, QueueAway, QueueFull, Reserved, State, Submission
from tokenfleet.router.jobs import Job
from tokenfleet.router.rejections import (
    ASYNC_QUEUE_AWAY,
    ASYNC_QUEUE_FULL,
    IDEMPOTENCY_KEY_REUSED,
    OUT_OF_BOUNDS,
    REQUEST_ENDED,
    REQUEST_NOT_FOUND,
    STREAM_UNSUPPORTED,
    UNKNOWN_PATH,
    Rejected,
    render,
)
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.routes import Service
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.request import Request

log = logging.getLogger(__name__)
_sparingly: Final = Sparingly(log)

_ID: Final = re.compile(rb"async_[0-9a-f]{32}")
_IDEMPOTENCY_KEY: Final = b"idempotency-key"
_MAX_KEY_BYTES: Final = 255


class AsyncCall:
    """One HTTP request about the durable queue, and its answer. A connection treats it as it does an Exchange."""

    __slots__ = ("_body", "_client", "_gone", "_key", "_request", "_request_id", "_shared", "_task", "_worker")

    def __init__(self, client: Client, shared: Shared, *, request: Request, body: bytes, key: Key) -> None:
        self._client = client
        self._shared = shared
        self._request = request
        self._request_id = shared.request_id()
        self._body = body
        self._key = key
        self._gone = False
        self._task: asyncio.Task[None] | None = None
        if shared.async_worker is None:
            raise _disabled()
        self._worker = shared.async_worker

    # --- Verbs of the client's connection

    def start(self) -> None:
        """Rejected, where the request may not come in."""
        request = self._request
        if request.route.takes_body:
            job = admit(self._shared, request, self._body, self._key)
            submission = _submission(job)
            rate = applied(self._key.rate, job.model.terms.limits)
            self._shared.rates.reserve(self._key.name, rate, job.tokens, lambda result: self._reserved(job, submission, result))
        else:
            id_ = request.route.path.removeprefix(routes.ASYNC_REQUESTS)
            if not _ID.fullmatch(id_):
                raise _not_found(id_)
            verb = self._cancel if request.route.service is Service.ASYNC_CANCEL else self._show
            self._run(verb(id_.decode()))

    def cancel(self, reason: str) -> None:
        """The client is gone."""
        self._gone = True

    def pause_reading(self) -> None:
        """Its answers are small."""

    def resume_reading(self) -> None:
        """See pause_reading."""

    # --- POST

    def _reserved(self, job: Job, submission: Submission, result: Reservation | Rejected) -> None:
        if isinstance(result, Rejected):
            self._refuse(result)
        elif self._gone:
            result.cancel()
        else:
            self._run(self._accept(job, submission, result))

    async def _accept(self, job: Job, submission: Submission, reservation: Reservation) -> None:
        try:
            receipt = await self._worker.store.submit(submission, job.model.terms.asynchronous)
        except BaseException:
            reservation.cancel()
            raise
        if receipt.id == submission.id:
            self._worker.wake()
        else:
            reservation.cancel()  # It was here before.
        location = b"location: %b%b\r\n" % (routes.ASYNC_REQUESTS, receipt.id.encode())
        self._answer(202, accepted(receipt, job.model.name), location + reservation.lines)

    # --- GET and DELETE

    async def _show(self, id_: str) -> None:
        found = await self._worker.store.find(id_, owner=self._key.name)
        if found is None:
            raise _not_found(id_.encode())
        self._answer(200, shown(found))

    async def _cancel(self, id_: str) -> None:
        before = await self._worker.store.cancel(id_, owner=self._key.name)
        if before is None:
            raise _not_found(id_.encode())
        if before not in (State.QUEUED, State.RUNNING, State.CANCELLED):
            raise Rejected(REQUEST_ENDED, f"The request has ended before ({before.value}); there is nothing to cancel.")
        self._worker.cancelled(id_)
        await self._show(id_)

    # --- Towards the client

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._shared.loop.create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever happens, the client gets an answer."""
        try:
            await work
        except Rejected as rejected:
            self._refuse(rejected)
        except QueueFull:
            words = "As many requests are waiting as this router may keep (spec.router.async.maxPending). Try again later."
            self._refuse(Rejected(ASYNC_QUEUE_FULL, words))
        except KeyReused:
            words = "This Idempotency-Key was used for another request. Use a new key for a new request."
            self._refuse(Rejected(IDEMPOTENCY_KEY_REUSED, words))
        except QueueAway as error:
            _sparingly.warning("a request for the durable queue is refused: %s", error)
            words = "The durable queue cannot be reached. Try again in a moment, with the same Idempotency-Key if you send one."
            self._refuse(Rejected(ASYNC_QUEUE_AWAY, words))
        except Exception:  # A fault of ours; the client must not wait for ever.
            log.exception("a request for the durable queue failed")
            self._refuse(Rejected(ASYNC_QUEUE_AWAY, "The router failed at this request. Try again in a moment."))

    def _answer(self, status: int, body: bytes, lines: bytes = b"") -> None:
        self._tell(status, metrics.ANSWERED)
        if not self._gone:
            keep_alive = self._request.keep_alive and not self._shared.leaving
            self._client.write(render(status, body, request_id=self._request_id, fields=lines, close=not keep_alive))
            self._client.finish(keep_alive=keep_alive)

    def _refuse(self, rejected: Rejected) -> None:
        self._tell(rejected.kind.status, rejected.kind.reason)
        if not self._gone:
            self._client.refuse(rejected, request_id=self._request_id)

    def _tell(self, code: int, reason: str) -> None:
        journal, path = self._shared.journal, self._request.route.path
        journal.answered(code, reason, request_id=self._request_id, path=path, key=self._key.name)


def _submission(job: Job) -> Submission:
    request = job.request
    if not job.model.terms.asynchronous.enabled:
        raise _disabled()
    if job.stream:
        words = "An asynchronous request is not streamed: its whole answer is kept until you fetch it. Leave `stream` out."
        raise Rejected(STREAM_UNSUPPORTED, words, param="stream")
    headers, once = _split(request.fields)
    if len(once) > _MAX_KEY_BYTES:
        raise Rejected(OUT_OF_BOUNDS, f"The Idempotency-Key is longer than {_MAX_KEY_BYTES} bytes.")
    owner, path = job.key.name, request.route.path.replace(routes.ASYNC, b"/v1/", 1)
    return Submission(
        id=f"async_{secrets.token_hex(16)}",
        owner=owner,
        model=job.model.name,
        path=path,
        headers=headers,
        body=job.body,
        reserved=msgspec.json.encode(Reserved(applied(job.key.rate, job.model.terms.limits), job.tokens)),
        once=sha256(b"%b\0%b" % (owner.encode(), once)).hexdigest() if once else "",
        digest=sha256(b"%b\0%b" % (path, job.body)).hexdigest(),
    )


def _split(lines: bytes) -> tuple[bytes, bytes]:
    """Header lines for the engine, and the idempotency key."""
    kept, once = [], b""
    for line in lines.splitlines(keepends=True):
        name, _, value = line.partition(b":")
        if name.lower() == _IDEMPOTENCY_KEY:
            once = once or value.strip()
        else:
            kept.append(line)
    return b"".join(kept), once


def _disabled() -> Rejected:
    return Rejected(UNKNOWN_PATH, "Asynchronous requests are not served here: the spec of this router enables no `async`.")


def _not_found(id_: bytes) -> Rejected:
    id_text = id_[:50].decode("latin-1")
    return Rejected(REQUEST_NOT_FOUND, f"You have no request {id_text!r} here. Results are kept for a while only.")
