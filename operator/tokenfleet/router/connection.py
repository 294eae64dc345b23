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

from tokenfleet.router import heads, metrics
from tokenfleet.router.deadlines import NEVER
from tokenfleet.router.exchange import Exchange
from tokenfleet.router.flow import Flow
from tokenfleet.router.framing import Body, ChunkedBody, FramingError, LengthBody
from tokenfleet.router.rejections import BODIES_FULL, HEAD_TOO_LARGE, MALFORMED, TOO_SLOW, Rejected, render
from tokenfleet.router.request import Request, parse, read_body, too_large
from tokenfleet.router.shared import Shared


class State(Enum):
    """What the connection is busy with."""

    WAITING = "waiting"
    """Between requests."""
    HEAD = "head"
    BODY = "body"
    EXCHANGE = "exchange"
    LINGERING = "lingering"
    CLOSING = "closing"


class ClientConnection(asyncio.Protocol):
    """One connection of one client."""

    __slots__ = (
        *("_advancing", "_body", "_buffer", "_exchange", "_held", "_lingered", "_request", "_shared", "_whole", "state"),
        *("deadline", "flow", "transport"),
    )

    transport: asyncio.Transport
    flow: Flow

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.state = State.WAITING
        self.deadline = NEVER
        self._buffer = b""
        self._advancing = False
        self._request: Request | None = None
        self._body: Body | None = None
        self._whole = bytearray()
        self._held = 0
        self._exchange: Exchange | None = None
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

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is State.LINGERING:
            self._lingered += len(data)
            if self._lingered > self._shared.limits.linger_bytes:
                self.abort()
            return
        if state is State.CLOSING:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if state is State.EXCHANGE:
            if len(self._buffer) > self._shared.limits.pipelined_bytes:
                self.flow.pause_reading()
            return
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.deadlines.discard(self)
        self._shared.clients.discard(self)
        self.state = State.CLOSING
        self._drop_exchange(metrics.CLIENT_GONE)
        self._buffer = b""
        self._let_go()

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self.state is not State.LINGERING:
            self.deadline = self._shared.deadlines.after(self._shared.limits.stall_seconds)
        if self._exchange is not None:
            self._exchange.pause_reading()
        else:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self.state is State.EXCHANGE:
            self.deadline = NEVER
        if self._exchange is not None:
            self._exchange.resume_reading()
        elif self.state is State.WAITING:
            self._next()
            self._advance()
        else:
            self.flow.resume_reading()

    def expire(self) -> None:
        """A deadline has passed: whose it was, the state says."""
        if self.state is State.HEAD or self.state is State.BODY:
            self._refuse_early(Rejected(TOO_SLOW, f"The request's {self.state.value} did not come in time."))
        elif self.state is State.WAITING:
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
        self.state = State.CLOSING
        self.deadline = self._shared.deadlines.after(self._shared.limits.stall_seconds)
        self.transport.close()

    def abort(self, reason: str = metrics.CLIENT_GONE) -> None:
        """Close at once; a request that is under way ends for this reason."""
        self._drop_exchange(reason)
        self.state = State.CLOSING
        self.deadline = NEVER
        self.transport.abort()

    # --- Verbs of the server

    @property
    def idle(self) -> bool:
        """Between requests."""
        return self.state is State.WAITING

    # --- Reading

    def _advance(self) -> None:
        """Take requests out of the buffer until it holds no whole one, one is under way, or their answers pile up."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._buffer and not self.flow.write_paused and self._step():
                pass
        except Rejected as rejected:
            self._refuse_early(rejected)
        except FramingError as error:
            self._refuse_early(Rejected(MALFORMED, f"The chunked body is malformed: {error}."))
        finally:
            self._advancing = False

    def _step(self) -> bool:
        """One move of the machine; whether another may follow."""
        if self.state is State.WAITING or self.state is State.HEAD:
            return self._read_head()
        return self.state is State.BODY and self._read_body()

    def _read_head(self) -> bool:
        limits, buffer = self._shared.limits, self._buffer
        end = buffer.find(heads.END) + 4
        if (len(buffer) if end < 4 else end) > limits.head_bytes:
            raise Rejected(HEAD_TOO_LARGE, f"The request's head is larger than {limits.head_bytes} bytes.")
        if end < 4:
            if self.state is State.WAITING:
                self.state = State.HEAD
                self.deadline = self._shared.deadlines.after(limits.head_seconds)
            if heads.hopeless(buffer):
                raise Rejected(MALFORMED, heads.explain(buffer))
            return False
        request = self._request = parse(buffer[:end], limits)
        self._buffer = buffer[end:]
        if not request.chunked and request.length <= len(self._buffer):
            self._hold(request.length)
            body, self._buffer = self._buffer[: request.length], self._buffer[request.length :]
            self._dispatch(request, body)
            return True
        self.state = State.BODY
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
        self.state = State.EXCHANGE
        self.deadline = NEVER
        try:
            if request.route.relayed:
                model = self._shared.catalog.find(read_body(body).model)
                self._exchange = Exchange(self, self._shared, request=request, body=body, model=model)
                self._exchange.start()
            else:
                self._answer(request, self._shared.catalog.answer(request.route.path))
        except Rejected as rejected:
            self._shared.metrics.requests[rejected.kind.status, rejected.kind.reason] += 1
            self.refuse(rejected, request_id=self._shared.request_id())

    def _answer(self, request: Request, body: bytes) -> None:
        keep_alive = request.keep_alive and not self._shared.leaving
        self._shared.metrics.requests[200, metrics.ANSWERED] += 1
        self.write(render(200, body, request_id=self._shared.request_id(), close=not keep_alive))
        self.finish(keep_alive=keep_alive)

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
        self._request = None
        self.release_body()
        self.state = State.WAITING
        if self.flow.write_paused:
            self.flow.pause_reading()
        else:
            self.deadline = self._shared.deadlines.after(self._shared.limits.idle_seconds)
            self.flow.resume_reading()

    def _refuse_early(self, rejected: Rejected) -> None:
        """Refuse a request that was not read to its end; what follows cannot be told apart from it."""
        self._shared.metrics.requests[rejected.kind.status, rejected.kind.reason] += 1
        request_id, fields = self._shared.request_id(), rejected.fields()
        self.write(render(rejected.kind.status, rejected.body(), request_id=request_id, fields=fields, close=True))
        self._buffer = b""
        self._body = None
        self._let_go()
        self.state = State.LINGERING
        self.deadline = self._shared.deadlines.after(self._shared.limits.linger_seconds)
        self.flow.resume_reading()
        self.transport.write_eof()

    def _drop_exchange(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel(reason)
