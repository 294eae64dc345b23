"""The traffic port: listens, and leaves in good order.

Leaving has three phases: a lame duck that still takes connections while endpoints forget it; then no new ones, and what
runs goes on to its end or the drain's deadline; then the rest is cut. Each answer since the beginning says
`Connection: close`.
"""

import asyncio
import logging
from typing import Final

from tokenfleet.router import metrics, sockets
from tokenfleet.router.connection import ClientConnection
from tokenfleet.router.shared import Shared

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.05


class Server:
    """Of one router."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives back the port, which the system chooses where `port` is 0."""
        shared = self._shared
        listening = sockets.listen(host, port, untaken_seconds=shared.limits.stall_seconds)
        self._server = await shared.loop.create_server(
            lambda: ClientConnection(shared), sock=listening, backlog=sockets.BACKLOG
        )
        shared.deadlines.turn(shared.loop)
        return sockets.port_of(listening)

    async def leave(self, *, lame_duck_seconds: float, drain_seconds: float) -> None:
        """End in good order. Cancel it to skip what is left of the waiting; `stop` does the rest."""
        shared = self._shared
        shared.leaving = True
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
        self._shared.upstreams.close()
        self._shared.deadlines.stop()

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _close_idle(self) -> None:
        for client in self.clients():
            if client.idle:
                client.close()

    def clients(self) -> list[ClientConnection]:
        return [client for client in self._shared.clients if isinstance(client, ClientConnection)]
