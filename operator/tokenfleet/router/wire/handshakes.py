"""The traffic port where it speaks TLS: accepts, looks at a connection's first byte, and lets its handshake run to an end.

A handshake has a deadline, and each peer may have as many under way as connections: both are settled before any memory of
OpenSSL's is spent on it. Whoever speaks plain HTTP here is told so in plain HTTP, since a TLS alert would be gibberish to it.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from tokenfleet.router.rejections import MALFORMED, Rejected, render
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.deadlines import NEVER
from tokenfleet.router.wire.peers import Peers
from tokenfleet.router.wire.sockets import BACKLOG, port_of
from tokenfleet.router.wire.tls import Certificates

log = logging.getLogger(__name__)
_sparingly: Final = Sparingly(log)

_HANDSHAKE: Final = b"\x16"
"""The first byte of every TLS connection."""
_AT_ONCE: Final = 128
"""Connections accepted before others get their turn."""
_REST_SECONDS: Final = 1.0
"""After a failure: out of file descriptors, as a rule."""
_NEVER_SECONDS: Final = 86_400.0
"""For uvloop's own timer of handshakes, which the wheel of deadlines makes needless."""


class TlsListener:
    """Of one listening socket."""

    def __init__(
        self, shared: Shared, listening: socket.socket, certificates: Certificates, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self._shared = shared
        self._listening = listening
        self.certificates = certificates
        self.factory = factory
        self.peers = Peers()
        """Those whose handshakes are under way."""
        self.handshakes: set[Handshake] = set()
        self._rest: asyncio.TimerHandle | None = None
        self.listening = False

    async def open(self) -> None:
        """Listen, as soon as there is a certificate."""
        await self.certificates.available()
        self._listening.setblocking(False)
        while not self.listening:
            try:
                self._listening.listen(BACKLOG)
                self.listening = True
            except OSError as error:  # Somebody else has come to listen here while there was no certificate.
                _sparingly.warning("cannot listen on port %d: %s; trying again in a moment", port_of(self._listening), error)
                await asyncio.sleep(_REST_SECONDS)
        self._resume()

    def _resume(self) -> None:
        self._shared.loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept nothing more; handshakes that are under way come to their end."""
        if self._rest is not None:
            self._rest.cancel()
        self.listening = False
        if self._listening.fileno() >= 0:
            self._shared.loop.remove_reader(self._listening)
            self._listening.close()

    def abort(self) -> None:
        """End all handshakes."""
        for handshake in list(self.handshakes):
            handshake.expire()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _sparingly.warning("cannot accept connections: %s; trying again in a moment", error)
                self._shared.loop.remove_reader(self._listening)
                self._rest = self._shared.loop.call_later(_REST_SECONDS, self._resume)
                return
            peer = self.peers.enter(address[0], most=self._shared.limits.peer_connections)
            if peer is None:
                connection.close()
            else:
                Handshake(self._shared, self, connection, peer)


class Handshake:
    """Of one connection, until it is one of a client or has ended."""

    __slots__ = ("_connection", "_listener", "_peer", "_shaking", "_shared", "_task", "deadline")

    def __init__(self, shared: Shared, listener: TlsListener, connection: socket.socket, peer: str) -> None:
        self._shared = shared
        self._listener = listener
        self._connection = connection
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._shaking = False
        """The task has begun, and the socket is its own."""
        connection.setblocking(False)
        self.deadline = shared.deadlines.after(shared.limits.handshake_seconds)
        shared.deadlines.add(self)
        listener.handshakes.add(self)
        shared.loop.add_reader(connection, self._look)

    def expire(self) -> None:
        """It takes too long, or the router ends."""
        self.deadline = NEVER
        if self._task is not None:
            self._task.cancel()
        if not self._shaking:
            self._end()

    def _look(self) -> None:
        """The first byte is here, or the end."""
        try:
            first = self._connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if first == _HANDSHAKE:
            self._shared.loop.remove_reader(self._connection)
            self._task = self._shared.loop.create_task(self._shake())
            return
        if first:
            self._tell()
        self._end()

    async def _shake(self) -> None:
        self._shaking = True
        try:
            await self._shared.loop.connect_accepted_socket(
                self._listener.factory,
                self._connection,
                ssl=self._listener.certificates.context,
                ssl_handshake_timeout=_NEVER_SECONDS,
                ssl_shutdown_timeout=self._shared.limits.linger_seconds,
            )
        except OSError as error:
            log.debug("a TLS handshake with %s failed: %s", self._peer, error)
        except asyncio.CancelledError:
            log.debug("a TLS handshake with %s was given up", self._peer)
        finally:
            self._forget()

    def _tell(self) -> None:
        """Answer somebody who speaks something else, taken for HTTP."""
        rejected = Rejected(MALFORMED, "This port speaks TLS, and got something else. Use https://.")
        request_id = self._shared.request_id()
        self._shared.journal.answered(rejected.kind.status, rejected.kind.reason, request_id=request_id)
        answer = render(rejected.kind.status, rejected.body(), request_id=request_id, close=True)
        try:
            self._connection.recv(self._shared.limits.head_bytes)  # What is left unread would turn the end into a reset.
            self._connection.send(answer)
        except OSError as error:
            log.debug("%s did not take the answer that this port speaks TLS: %s", self._peer, error)

    def _end(self) -> None:
        self._shared.loop.remove_reader(self._connection)
        self._connection.close()
        self._forget()

    def _forget(self) -> None:
        self._shared.deadlines.discard(self)
        self._listener.handshakes.discard(self)
        self._listener.peers.leave(self._peer)
