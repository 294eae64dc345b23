"""The traffic port: listens, and leaves in good order.

Leaving has three phases: a lame duck that still takes connections while endpoints forget it; then no new ones, and what
runs goes on to its end or the drain's deadline; then the rest is cut. From the beginning each answer says
`Connection: close`, and nobody waits in a queue any more: another router has places too.
"""

import asyncio
import logging
from typing import Final

from tokenfleet.router.reporting import metrics
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire import sockets
from tokenfleet.router.wire.connection import ClientConnection
from tokenfleet.router.wire.handshakes import TlsListener
from tokenfleet.router.wire.peers import Peers
from tokenfleet.router.wire.tls import Certificates

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.05
_LAST_REQUEST_SECONDS: Final = 1.0
"""So long a router that leaves still waits for another request on a connection that it had promised to keep."""


class Server:
    """Of one router."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.peers = Peers()
        self._server: asyncio.Server | None = None
        self._tls: TlsListener | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, certificates: Certificates | None = None) -> int:
        """Listen; gives back the port, which the system chooses where `port` is 0. With certificates it speaks TLS, and listens
        as soon as there is one."""
        shared = self._shared
        listening = sockets.bind(host, port, untaken_seconds=shared.limits.stall_seconds)
        if certificates is None:
            self._server = await shared.loop.create_server(self._client, sock=listening, backlog=sockets.BACKLOG)
        else:
            self._tls = TlsListener(shared, listening, certificates, self._client)
            self._opening = shared.loop.create_task(self._tls.open())
        shared.deadlines.turn(shared.loop)
        return sockets.port_of(listening)

    @property
    def listening(self) -> bool:
        """Whether clients can connect."""
        return self._server is not None or (self._tls is not None and self._tls.listening)

    @property
    def handshakes(self) -> int:
        """How many are under way."""
        return len(self._tls.handshakes) if self._tls is not None else 0

    def _client(self) -> ClientConnection:
        return ClientConnection(self._shared, self.peers)

    async def leave(self, *, lame_duck_seconds: float, drain_seconds: float) -> None:
        """End in good order. Cancel it to skip what is left of the waiting; `stop` does the rest."""
        shared = self._shared
        shared.leaving = True
        shared.evict_queues()
        log.info("leaving: new connections are taken for %g s more", lame_duck_seconds)
        await asyncio.sleep(lame_duck_seconds)
        self._close_listener()
        self._close_idle()
        log.info("leaving: no new connections; %d still have a request, for %g s", len(shared.clients), drain_seconds)
        deadline = shared.loop.time() + drain_seconds
        while shared.clients and shared.loop.time() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            self._close_idle()

    def stop(self) -> None:
        """Cut whatever is left."""
        self._close_listener()
        clients = self.clients()
        cut = sum(not client.idle for client in clients)
        if cut:
            log.warning("leaving: cut %d connections that had not ended", cut)
        for client in clients:
            client.abort(metrics.SHUTDOWN)
        if self._tls is not None:
            self._tls.abort()
        self._shared.upstreams.close()
        self._shared.deadlines.stop()

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._opening is not None:
            self._opening.cancel()
        if self._tls is not None:
            self._tls.close()

    def _close_idle(self) -> None:
        """Not those that have just had an answer: their next request may be on its way, and is answered with a goodbye."""
        for client in self.clients():
            if client.idle and client.idle_seconds >= _LAST_REQUEST_SECONDS:
                client.close()

    def clients(self) -> list[ClientConnection]:
        return [client for client in self._shared.clients if isinstance(client, ClientConnection)]
