"""One request on its way: lease a replica, send, relay the answer; elsewhere again while its client has seen no byte.

States change synchronously, by what `Upstream` and the client's connection call. The lease and the connection upstream
are given back in `_let_go` alone, and the outcome is counted in `_end` alone. The answer's head is held back until the
first byte of its body, so that a replica that dies while it computes its first token costs the client nothing.

After the first byte there is no second try: an event stream ends with an error event and no [DONE], anything else with a
broken connection, and neither gets the last chunk that would make it look whole.
"""

import asyncio
import logging
from typing import Final, Protocol

from tokenfleet.router import metrics
from tokenfleet.router.answer import Answer
from tokenfleet.router.catalog import Model
from tokenfleet.router.framing import LAST_CHUNK, chunk
from tokenfleet.router.logs import Sparingly
from tokenfleet.router.rejections import (
    ALL_DRAINING,
    UNREACHABLE,
    UPSTREAM_INVALID,
    UPSTREAM_LOST,
    UPSTREAM_SILENT,
    Rejected,
    status_line,
)
from tokenfleet.router.replicas import Lease, Replica
from tokenfleet.router.request import Request
from tokenfleet.router.shared import Shared
from tokenfleet.router.upstream import Upstream

log = logging.getLogger(__name__)
_sparingly: Final = Sparingly(log)

_STALE, _LOST, _CONNECT, _DRAINING = "stale_connection", "lost", "connect", "draining"


class Client(Protocol):
    """The connection that the request came on."""

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
        *("_answer", "_body", "_client", "_connecting", "_ended", "_failures", "_lease", "_losses", "_model", "_request"),
        *("_request_id", "_shared", "_started", "_tried", "_upstream", "_written"),
    )

    def __init__(self, client: Client, shared: Shared, *, request: Request, body: bytes, model: Model) -> None:
        self._client = client
        self._shared = shared
        self._request = request
        self._body = body
        self._model = model
        self._request_id = shared.request_id()
        self._started = shared.loop.time()
        self._tried: tuple[Replica, ...] = ()
        self._failures: dict[str, str] = {}
        self._losses = 0
        self._lease: Lease | None = None
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._written = False
        self._ended = False

    # --- Verbs of the client's connection

    def start(self) -> None:
        """Give the request to the next replica that has not had it."""
        lease = self._model.replicas.lease(exclude=self._tried)
        if lease is None:
            self._refuse(self._why_none())
            return
        self._lease = lease
        self._tried += (lease.replica,)
        connection = self._shared.upstreams.take(lease.replica)
        if connection is None:
            self._connect(lease.replica)
        else:
            self._send(connection)

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

    # --- Receiver

    def answered(self, answer: Answer) -> None:
        if answer.draining:
            self._again(_DRAINING, "is draining")
            return
        self._answer = answer

    def received(self, payload: bytes, *, complete: bool) -> None:
        answer = self._answer
        assert answer is not None
        if complete:
            self._upstream = None  # It has gone back to the spare ones, or has ended.
        if not self._written:
            if not payload and not complete:
                return
            self._shared.metrics.first_byte.observe(self._shared.loop.time() - self._started)
            self._written = True
            self._body = b""  # It will not be sent again.
            self._client.release_body()
            payload = self._head(answer) + self._frame(payload, complete=complete)
        else:
            payload = self._frame(payload, complete=complete)
        if payload:
            self._client.write(payload)
        if complete:
            self._end(answer.status, metrics.RELAYED)
            self._client.finish(keep_alive=self._keeps_alive())

    def lost(self, why: str) -> None:
        connection = self._upstream
        assert connection is not None and self._lease is not None
        if self._written:
            self._truncate(why)
            return
        self._losses += 1
        if self._losses >= self._shared.limits.losses:
            self._upstream = None
            self._fail(Rejected(UPSTREAM_LOST, f"{self._losses} replicas were lost while they had this request."), why)
        elif connection.reused and _STALE not in self._failures:
            self._upstream = None
            self._failures[_STALE] = why
            self._shared.metrics.retries[_STALE] += 1
            self._connect(self._lease.replica)
        else:
            self._again(_LOST, why)

    def silent(self) -> None:
        why = f"sent nothing for {self._shared.limits.silence_seconds:g} s"
        if self._written:
            self._truncate(why)
        else:
            self._fail(Rejected(UPSTREAM_SILENT, f"The model's replica {why}."), why)

    def invalid(self, why: str) -> None:
        if self._written:
            self._truncate(f"sent an invalid answer: {why}")
        else:
            self._fail(Rejected(UPSTREAM_INVALID, f"The model's replica gave an invalid answer: {why}."), why)

    # --- Towards a replica

    def _connect(self, replica: Replica) -> None:
        self._connecting = self._shared.loop.create_task(self._connect_and_send(replica))

    async def _connect_and_send(self, replica: Replica) -> None:
        try:
            connection = await self._shared.upstreams.connect(replica)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request must go on to its end
            if not self._ended:
                self._again(_CONNECT, "cannot be reached: " + (str(error) or "the connection timed out"))
            return
        if self._ended:
            self._shared.upstreams.keep(connection)
        else:
            self._send(connection)

    def _send(self, connection: Upstream) -> None:
        self._upstream = connection
        body = self._body
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            self._request.route.path,
            connection.replica.authority,
            self._request.fields,
            self._request_id,
            len(body),
        )
        connection.send(self, head, body)
        if self._client.write_paused:
            connection.pause_reading()

    def _again(self, cause: str, why: str) -> None:
        """This replica did not do; take the next one."""
        _sparingly.warning("replica %s %s; trying another (%s)", self._tried[-1].name, why, self._request_id.decode())
        self._failures[cause] = why
        self._let_go()
        before = len(self._tried)
        self.start()
        if len(self._tried) > before:
            self._shared.metrics.retries[cause] += 1

    def _why_none(self) -> Rejected:
        if _DRAINING in self._failures and _CONNECT not in self._failures and _LOST not in self._failures:
            return Rejected(ALL_DRAINING, "All replicas of this model are going away. Try again soon.")
        if self._tried:
            names = ", ".join(f"{replica.name}" for replica in self._tried[:5])
            return Rejected(UNREACHABLE, f"No replica of this model could take the request (tried: {names}).")
        return self._model.replicas.refusal()

    # --- Towards the client

    def _head(self, answer: Answer) -> bytes:
        if answer.length is not None:
            framing = b"content-length: %d\r\n" % answer.length
        elif self._request.http10:
            framing = b""
        else:
            framing = b"transfer-encoding: chunked\r\n"
        close = b"" if self._keeps_alive() else b"connection: close\r\n"
        lines = status_line(answer.status), answer.fields, b"x-request-id: ", self._request_id, b"\r\n", framing, close
        return b"".join((*lines, b"\r\n"))

    def _frame(self, payload: bytes, *, complete: bool) -> bytes:
        assert self._answer is not None
        if self._answer.length is not None or self._request.http10:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + LAST_CHUNK if complete else framed

    def _keeps_alive(self) -> bool:
        return self._request.keep_alive and not self._shared.leaving

    def _truncate(self, why: str) -> None:
        """The replica is lost in the middle of its answer, and the client must be able to tell."""
        assert self._answer is not None
        name = self._tried[-1].name
        _sparingly.warning("replica %s %s in the middle of an answer (%s)", name, why, self._request_id.decode())
        status, stream = self._answer.status, self._answer.event_stream and self._answer.length is None
        if stream:
            error = Rejected(UPSTREAM_LOST, "The model's replica was lost in the middle of this answer; it is not whole.")
            self._client.write(self._frame(b"\n\ndata: " + error.body() + b"\n\n", complete=False))
        self._end(status, metrics.TRUNCATED)
        if stream:
            self._client.close()
        else:
            self._client.abort()

    def _fail(self, rejected: Rejected, why: str) -> None:
        _sparingly.warning("replica %s %s; giving up (%s)", self._tried[-1].name, why, self._request_id.decode())
        self._refuse(rejected)

    def _refuse(self, rejected: Rejected) -> None:
        self._end(rejected.kind.status, rejected.kind.reason)
        self._client.refuse(rejected, request_id=self._request_id)

    # --- Ends

    def _let_go(self) -> None:
        """Give back what is held of the replica. A connection that is not detached before is in the middle of an answer."""
        connection, self._upstream = self._upstream, None
        if connection is not None:
            connection.abort()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def _end(self, code: int, reason: str) -> None:
        """Count the outcome, once."""
        self._ended = True
        self._let_go()
        seconds = self._shared.loop.time() - self._started
        self._shared.metrics.requests[code, reason] += 1
        self._shared.metrics.seconds.observe(seconds)
        if log.isEnabledFor(logging.DEBUG):
            replica = self._tried[-1].name if self._tried else "-"
            path, request_id = self._request.route.path.decode(), self._request_id.decode()
            log.debug("%s %d %s on %s in %.3f s (%s)", path, code, reason, replica, seconds, request_id)
