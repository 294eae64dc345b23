"""The replicas' side of the wire: one connection, and the spare ones kept for the next request.

A connection serves one exchange at a time. It tells its `Receiver` what comes, synchronously, from its protocol callbacks:
no task, no queue, no await per request or chunk. When an answer ends cleanly the connection goes back to the spare ones
before its receiver hears of it. Whoever abandons an exchange aborts the connection, which is what stops the engine.
"""

import asyncio
from typing import Final, Protocol

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.wire import heads
from tokenfleet.router.wire.answer import Answer, InvalidAnswer, parse
from tokenfleet.router.wire.deadlines import NEVER, Deadlines
from tokenfleet.router.wire.flow import Flow
from tokenfleet.router.wire.framing import Body, ChunkedBody, FramingError, LengthBody
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.sockets import notice_death

_MAX_SPARE: Final = 512
"""Per replica."""


class Receiver(Protocol):
    """Who gets an answer. Each of these may call back into the connection, even abort it."""

    def answered(self, answer: Answer) -> None:
        """The head has come. `received` follows, unless the connection was aborted in here."""

    def received(self, payload: bytes, *, complete: bool) -> None:
        """More of the body (perhaps nothing), and whether that was all."""

    def lost(self, why: str) -> None:
        """The connection ended before the answer did."""

    def silent(self) -> None:
        """Nothing came for too long; the connection is aborted."""

    def invalid(self, why: str) -> None:
        """What came is not HTTP; the connection is aborted."""


class Upstream(asyncio.Protocol):
    """One connection to one replica."""

    __slots__ = (
        *("_answer", "_body", "_buffer", "_limits", "_patience", "_pool", "_receiver"),
        *("closed", "deadline", "flow", "replica", "reused", "transport"),
    )

    transport: asyncio.Transport
    flow: Flow

    def __init__(self, replica: Replica, pool: "Upstreams") -> None:
        self.replica = replica
        self.reused = False
        self.closed = False
        """It is ending, and must not be taken; `connection_lost` follows."""
        self.deadline = NEVER
        self._pool = pool
        self._limits = pool.limits
        self._receiver: Receiver | None = None
        self._answer: Answer | None = None
        self._body: Body | None = None
        self._buffer = b""
        self._patience = 0.0
        """Seconds that the replica may be silent: before its answer's first byte, or between two."""

    # --- Verbs of an exchange

    def send(self, receiver: Receiver, head: bytes, body: bytes) -> None:
        """Begin an exchange."""
        self._receiver = receiver
        self._answer = self._body = None
        patience = self._patience = self._limits.first_byte_seconds
        self.deadline = self._pool.deadlines.after(patience)
        self.transport.writelines((head, body))

    def pause_reading(self) -> None:
        """The client is full. While it is, this replica's silence is no fault of its own."""
        self.flow.pause_reading()
        self.deadline = NEVER

    def resume_reading(self) -> None:
        self.flow.resume_reading()
        if self._receiver is not None:
            self.deadline = self._pool.deadlines.after(self._patience)

    def abort(self) -> None:
        """End it now; the receiver hears nothing more."""
        self._receiver = None
        self.closed = True
        self.deadline = NEVER
        self.transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = Flow(transport)
        notice_death(transport.get_extra_info("socket"), untaken_seconds=self._limits.untaken_seconds)
        self.deadline = self._pool.deadlines.after(self._limits.upstream_idle_seconds)
        self._pool.deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        receiver, body = self._receiver, self._body
        if receiver is None:
            self.abort()
            return
        try:
            if body is None:
                self._read_head(receiver, data)
                return
            # Here and not apart, as this is what is done for each part of a stream.
            payload = body.feed(data)
            if body.complete:
                assert self._answer is not None
                self._end(self._answer, excess=body.excess)
                receiver.received(payload, complete=True)
            else:
                patience = self._patience = self._limits.silence_seconds
                self.deadline = self._pool.deadlines.after(patience)
                receiver.received(payload, complete=False)
        except (InvalidAnswer, FramingError) as error:
            receiver = self._receiver
            self.abort()
            if receiver is not None:
                receiver.invalid(str(error))

    def eof_received(self) -> bool:
        self.closed = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.deadlines.discard(self)
        self._pool.forget(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost("closed the connection" if exc is None else f"broke the connection ({exc})")

    def expire(self) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.silent()

    # --- Reading an answer

    def _read_head(self, receiver: Receiver, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(heads.END) + 4
            if end < 4:
                if len(data) > self._limits.head_bytes:
                    raise InvalidAnswer("its head is too large")
                self._buffer = data
                return
            answer = parse(data[:end])
            data = data[end:]
            if answer.status >= 200:
                break
            if answer.status == 101:
                raise InvalidAnswer("it switches protocols")
        if len(data) == answer.length:
            receiver.answered(answer)
            if self._receiver is not None:
                self._end(answer, excess=False)
                receiver.received(data, complete=True)
            return
        self._answer = answer
        self._body = ChunkedBody() if answer.length is None else LengthBody(answer.length)
        receiver.answered(answer)
        if self._receiver is not None and data:
            self.data_received(data)

    def _end(self, answer: Answer, *, excess: bool) -> None:
        """The answer is here whole."""
        self._receiver = None
        if answer.keep_alive and not excess:
            if self.flow.read_paused:
                self.flow.resume_reading()
            self._pool.keep(self)
        else:
            self.abort()


class Upstreams:
    """Connections to all replicas."""

    __slots__ = ("deadlines", "limits", "spare")

    def __init__(self, limits: Limits, deadlines: Deadlines) -> None:
        self.limits = limits
        self.deadlines = deadlines
        self.spare: dict[Replica, list[Upstream]] = {}

    def take(self, replica: Replica) -> Upstream | None:
        """A spare connection, the one used last, or None."""
        spare = self.spare.get(replica)
        while spare:
            connection = spare.pop()
            if not connection.closed:
                connection.reused = True
                return connection
        return None

    async def connect(self, replica: Replica) -> Upstream:
        """A new connection. OSError (TimeoutError is one) where there is none."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.limits.connect_seconds):
            _, connection = await loop.create_connection(lambda: Upstream(replica, self), replica.seen.host, replica.seen.port)
        return connection

    def keep(self, connection: Upstream) -> None:
        """Its exchange has ended well: another may have it."""
        spare = self.spare.get(connection.replica)
        if spare is None:
            spare = self.spare[connection.replica] = []
        if len(spare) >= _MAX_SPARE:
            connection.abort()
            return
        connection.deadline = self.deadlines.after(self.limits.upstream_idle_seconds)
        spare.append(connection)

    def forget(self, connection: Upstream) -> None:
        """It has ended."""
        spare = self.spare.get(connection.replica)
        if spare is None:
            return
        if connection in spare:
            spare.remove(connection)
        if not spare:
            del self.spare[connection.replica]

    def close(self) -> None:
        """End all spare connections."""
        for spare in list(self.spare.values()):
            for connection in list(spare):
                connection.abort()

    def idle(self, replica: Replica) -> int:
        return len(self.spare.get(replica, ()))

    def idle_total(self) -> int:
        return sum(len(spare) for spare in self.spare.values())
