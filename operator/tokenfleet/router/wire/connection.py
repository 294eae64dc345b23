"""The clients' side of the wire: reads requests one after another, hands each to an Exchange, writes what comes back.

A state machine without awaits. In WAITING and HEAD it collects a head, in BODY a body (whole, since a request may have to
be sent twice and its model has to be known), in EXCHANGE the answer is under way. It goes on reading then, to notice a
client that leaves; what a client pipelines waits its turn. After a refusal whose request was not read to its end it stays
in LINGERING for a moment, throwing away what comes, since closing at once would reset the connection under the answer.

The end of a client's sending counts as its goodbye: whoever half-closes while a request runs has abandoned it.
"""

import asyncio
from enum import Enum

from msgspec.structs import replace

from tokenfleet.router.admission import admit, authorise
from tokenfleet.router.callers.keys import ANONYMOUS, Key
from tokenfleet.router.durable.api import AsyncCall
from tokenfleet.router.exchange import Exchange
from tokenfleet.router.rejections import (
    BODIES_FULL,
    HEAD_TOO_LARGE,
    MALFORMED,
    TOO_MANY_CONNECTIONS,
    TOO_SLOW,
    Rejected,
    render,
)
from tokenfleet.router.reporting import metrics
from tokenfleet.router.routes import Service
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire import heads
from tokenfleet.router.wire.deadlines import NEVER
from tokenfleet.router.wire.flow import Flow
from tokenfleet.router.wire.framing import Body, ChunkedBody, FramingError, LengthBody
from tokenfleet.router.wire.peers import Peers
from tokenfleet.router.wire.request import Request, parse, too_large


class State(Enum):
    """What the connection is busy with."""

    WAITING = "waiting"
    """Between requests."""
    HEAD = "head"
    BODY = "body"
    EXCHANGE = "exchange"
    LINGERING = "lingering"
    CLOSING = "closing"


_WAITING, _HEAD, _BODY, _EXCHANGE, _LINGERING, _CLOSING = State
_ENGINE, _MODELS = Service.ENGINE, Service.MODELS
"""Apart: to find a member of an Enum takes as long as ten other names."""


class ClientConnection(asyncio.Protocol):
    """One connection of one client."""

    __slots__ = (
        "_answered",
        *("_advancing", "_body", "_buffer", "_exchange", "_held", "_key", "_lingered", "_peer", "_peers", "_request"),
        *("_shared", "_whole", "deadline", "flow", "state", "transport"),
    )

    transport: asyncio.Transport
    flow: Flow

    def __init__(self, shared: Shared, peers: Peers) -> None:
        self._shared = shared
        self._peers = peers
        self._peer: str | None = None
        """As whom `peers` counts it."""
        self.state = _WAITING
        self.deadline = NEVER
        self._buffer = b""
        self._advancing = False
        self._request: Request | None = None
        self._body: Body | None = None
        self._whole = bytearray()
        self._answered = 0.0
        self._held = 0
        self._key: Key = ANONYMOUS
        self._exchange: Exchange | AsyncCall | None = None
        self._lingered = 0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        shared = self._shared
        self.transport = transport
        self.flow = Flow(transport)
        transport.set_write_buffer_limits(high=shared.limits.write_buffer_bytes)
        self.deadline = shared.deadlines.after(shared.limits.head_seconds)
        shared.deadlines.add(self)
        shared.clients.add(self)
        self._peer = self._peers.enter(transport.get_extra_info("peername")[0], most=shared.limits.peer_connections)
        if self._peer is None:
            words = f"Your address has {shared.limits.peer_connections} connections open here, which is all that it may have."
            self._refuse_early(Rejected(TOO_MANY_CONNECTIONS, words))

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _LINGERING:
            self._lingered += len(data)
            if self._lingered > self._shared.limits.linger_bytes:
                self.abort()
            return
        if state is _CLOSING:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if state is _EXCHANGE:
            if len(self._buffer) > self._shared.limits.pipelined_bytes:
                self.flow.pause_reading()
            return
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.deadlines.discard(self)
        self._shared.clients.discard(self)
        if self._peer is not None:
            self._peers.leave(self._peer)
        self.state = _CLOSING
        self._drop_exchange(metrics.CLIENT_GONE)
        self._buffer = b""
        self._let_go()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self.state is not _LINGERING:
            self.deadline = self._shared.deadlines.after(self._shared.limits.stall_seconds)
        if self._exchange is not None:
            self._exchange.pause_reading()
        else:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self.state is _EXCHANGE:
            self.deadline = NEVER
        if self._exchange is not None:
            self._exchange.resume_reading()
        elif self.state is _WAITING:
            self._next()
            self._advance()
        else:
            self.flow.resume_reading()

    def expire(self) -> None:
        """A deadline has passed: whose it was, the state says."""
        if self.state is _HEAD or self.state is _BODY:
            self._refuse_early(Rejected(TOO_SLOW, f"The request's {self.state.value} did not come in time."))
        elif self.state is _WAITING:
            self.close()
        else:
            self.abort(metrics.CLIENT_STALLED)

    # --- Verbs of an exchange

    @property
    def write_paused(self) -> bool:
        return self.flow.write_paused

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def release_body(self) -> None:
        if self._held:
            self._shared.held_bytes -= self._held
            self._held = 0

    def finish(self, *, keep_alive: bool) -> None:
        self._exchange = None
        if not keep_alive:
            self.close()
            return
        self._next()
        if self._buffer:
            self._advance()

    def refuse(self, rejected: Rejected, *, request_id: bytes) -> None:
        assert self._request is not None
        keep_alive = self._request.keep_alive and not self._shared.leaving
        fields = rejected.fields()
        self.write(render(rejected.kind.status, rejected.body(), request_id=request_id, fields=fields, close=not keep_alive))
        self.finish(keep_alive=keep_alive)

    def close(self) -> None:
        """Send what is written, then close; a client that does not take it has its deadline."""
        self._drop_exchange(metrics.CLIENT_GONE)
        self.state = _CLOSING
        self.deadline = self._shared.deadlines.after(self._shared.limits.stall_seconds)
        self.transport.close()

    def abort(self, reason: str = metrics.CLIENT_GONE) -> None:
        """Close at once; a request that is under way ends for this reason."""
        self._drop_exchange(reason)
        self.state = _CLOSING
        self.deadline = NEVER
        self.transport.abort()

    # --- Verbs of the server

    @property
    def idle(self) -> bool:
        """Between requests."""
        return self.state is _WAITING

    @property
    def idle_seconds(self) -> float:
        """Since the last answer; one that had none yet counts as idle for long."""
        return self._shared.loop.time() - self._answered

    # --- Reading

    def _advance(self) -> None:
        """Take requests out of the buffer until it holds no whole one, one is under way, or their answers pile up."""
        if self._advancing:
            return
        self._advancing = True
        try:
            more = True
            while more and self._buffer and not self.flow.write_paused:
                state = self.state
                more = self._read_head() if state is _WAITING or state is _HEAD else state is _BODY and self._read_body()
        except Rejected as rejected:
            self._refuse_early(rejected)
        except FramingError as error:
            self._refuse_early(Rejected(MALFORMED, f"The chunked body is malformed: {error}."))
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        """These read what they can; whether there may be more to read."""
        shared, buffer = self._shared, self._buffer
        limits = shared.limits
        end = buffer.find(heads.END) + 4
        if (len(buffer) if end < 4 else end) > limits.head_bytes:
            raise Rejected(HEAD_TOO_LARGE, f"The request's head is larger than {limits.head_bytes} bytes.")
        if end < 4:
            if self.state is _WAITING:
                self.state = _HEAD
                self.deadline = shared.deadlines.after(limits.head_seconds)
            if heads.hopeless(buffer):
                raise Rejected(MALFORMED, heads.explain(buffer))
            return False
        request = self._request = parse(buffer[:end], limits)
        self._key = authorise(shared, request)
        whole = end + request.length
        if whole <= len(buffer) and not request.chunked:
            self._hold(request.length)
            self._buffer = buffer[whole:]
            self._dispatch(request, buffer[end:whole])
            return True
        self._buffer = buffer[end:]
        self.state = _BODY
        self._body = ChunkedBody() if request.chunked else LengthBody(request.length)
        self.deadline = self._shared.deadlines.after(limits.body_seconds)
        if request.expects_continue and not self._buffer:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self) -> bool:
        body, request = self._body, self._request
        assert body is not None and request is not None
        data, self._buffer = self._buffer, b""
        self._whole += body.feed(data)
        size = len(self._whole)
        if size > self._shared.limits.body_bytes:
            raise too_large(self._shared.limits)
        self._hold(size - self._held)
        if not body.complete:
            return False
        self._buffer = body.rest
        whole = bytes(self._whole)
        self._whole = bytearray()
        self._body = None
        if body.excess and not body.rest:
            # Something is pipelined behind a chunked body; llhttp has eaten its start, so this is the last answer here.
            self._request = request = replace(request, keep_alive=False)
        self._dispatch(request, whole)
        return True

    def _dispatch(self, request: Request, body: bytes) -> None:
        """The request is here whole."""
        self.state = _EXCHANGE
        self.deadline = NEVER
        shared, key = self._shared, self._key
        try:
            service = request.route.service
            if service is _ENGINE:
                exchange = self._exchange = Exchange(self, shared, admit(shared, request, body, key))
                exchange.start()
            elif service is _MODELS:
                self._answer(request, shared.catalog.answer(request.route.path, key))
            else:
                self._exchange = AsyncCall(self, shared, request=request, body=body, key=key)
                self._exchange.start()
        except Rejected as rejected:
            request_id = self._shared.request_id()
            self._tell(rejected.kind.status, rejected.kind.reason, request_id)
            self.refuse(rejected, request_id=request_id)

    def _answer(self, request: Request, body: bytes) -> None:
        keep_alive, request_id = request.keep_alive and not self._shared.leaving, self._shared.request_id()
        self._tell(200, metrics.ANSWERED, request_id)
        self.write(render(200, body, request_id=request_id, close=not keep_alive))
        self.finish(keep_alive=keep_alive)

    def _tell(self, code: int, reason: str, request_id: bytes) -> None:
        """Of a request that met no model."""
        path = self._request.route.path if self._request is not None else b""
        self._shared.journal.answered(code, reason, request_id=request_id, path=path, key=self._key.name)

    # --- Between and after

    def _hold(self, size: int) -> None:
        """Account for that much more of a body that is here, not only promised; `release_body` gives all of it back."""
        shared = self._shared
        if shared.held_bytes + size > shared.limits.held_bytes:
            raise Rejected(BODIES_FULL, "The router holds as many requests as it has memory for. Try again in a moment.")
        self._held += size
        shared.held_bytes += size

    def _let_go(self) -> None:
        """Give back what a request held."""
        self.release_body()
        self._whole = bytearray()

    def _next(self) -> None:
        """Wait for the next request; and before reading it, for a client that has not taken its answers yet."""
        shared, flow = self._shared, self.flow
        self._request = None
        self._answered = shared.loop.time()
        if self._held:
            self.release_body()
        self.state = _WAITING
        if flow.write_paused:
            flow.pause_reading()
        else:
            self.deadline = shared.deadlines.after(shared.limits.idle_seconds)
            if flow.read_paused:
                flow.resume_reading()

    def _refuse_early(self, rejected: Rejected) -> None:
        """Refuse a request that was not read to its end; what follows cannot be told apart from it."""
        request_id, fields = self._shared.request_id(), rejected.fields()
        self._tell(rejected.kind.status, rejected.kind.reason, request_id)
        self.write(render(rejected.kind.status, rejected.body(), request_id=request_id, fields=fields, close=True))
        self._buffer = b""
        self._body = None
        self._let_go()
        self.state = _LINGERING
        self.deadline = self._shared.deadlines.after(self._shared.limits.linger_seconds)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _drop_exchange(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel(reason)
