"""Where external metrics are served: TLS with a mounted certificate, and clients known by the front-proxy CA.

Both may be renewed at any time, so both are looked at again and again; a change opens the port anew with another context, while
connections that are open go on. What cannot be read at first is waited for: a controller without it does all its other work.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from tokenfleet.controller.actuators import front_proxy
from tokenfleet.controller.actuators.access import Access
from tokenfleet.controller.actuators.external_metrics import ExternalMetrics
from tokenfleet.controller.actuators.front_proxy import FrontProxy, Unusable
from tokenfleet.controller.actuators.gauges import Gauges
from tokenfleet.controller.cluster import ClusterError
from tokenfleet.controller.observed import Json

logger = logging.getLogger(__name__)

FIRST_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 60.0
_CHAIN, _KEY = "tls.crt", "tls.key"


class Api(Protocol):
    """What is needed of the API; Cluster has it."""

    def call(self, method: str, path: str, body: Json | None = None) -> Awaitable[Json]: ...


@dataclass(frozen=True, slots=True)
class _Trust:
    """All that a listening port is made of."""

    front_proxy: FrontProxy
    certificate: bytes
    key: bytes


class MetricsServer:
    """`keep` serves until it is cancelled."""

    def __init__(self, gauges: Gauges, api: Api, *, directory: Path, port: int, host: str | None = None) -> None:
        self._api, self._directory, self._port, self._host = api, directory, port, host
        self._app = ExternalMetrics(gauges, Access(api), front_proxy=lambda: self._trusted.front_proxy).app()
        self._trust: _Trust | None = None
        self._told = ""

    @property
    def _trusted(self) -> _Trust:
        if self._trust is None:
            raise RuntimeError("nothing is served before there is someone to trust")
        return self._trust

    async def keep(self, *, look: float = LOOK_SECONDS) -> None:
        """Raises OSError where the port is taken."""
        runner = web.AppRunner(self._app, handle_signals=False, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site: web.TCPSite | None = None
        try:
            while True:
                trust = await self._look()
                if trust is not None and trust != self._trust and (context := self._context(trust)) is not None:
                    before, self._trust = site, trust
                    site = web.TCPSite(runner, self._host, self._port, ssl_context=context, reuse_port=True)
                    await site.start()
                    if before is not None:  # Only now: nobody is refused meanwhile, and nobody else can take the port.
                        await before.stop()
                    logger.info("External metrics are served on port %d.", self._port)
                await asyncio.sleep(look if self._trust is not None else FIRST_SECONDS)
        finally:
            await runner.cleanup()

    async def _look(self) -> _Trust | None:
        try:
            found = FrontProxy.of(await self._api.call("GET", front_proxy.PATH))
            pair = await asyncio.to_thread(lambda: [(self._directory / name).read_bytes() for name in (_CHAIN, _KEY)])
        except (ClusterError, Unusable, OSError) as error:
            self._tell(str(error))
            return None
        self._told = ""
        return _Trust(found, *pair)

    def _context(self, trust: _Trust) -> ssl.SSLContext | None:
        """For new handshakes. The files are read once more: a pair that is being replaced does not fit, and comes next time."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.verify_mode = ssl.CERT_OPTIONAL  # Who shows none is told so in words, by 401.
        try:
            context.load_cert_chain(self._directory / _CHAIN, self._directory / _KEY, password="")
            context.load_verify_locations(cadata=trust.front_proxy.authority)
        except (OSError, ValueError) as error:
            self._tell(f"{_CHAIN} and {_KEY} in {self._directory}, or the front proxy's CA, cannot be used: {error}")
            return None
        return context

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            goes_on = "what was known before is used" if self._trust is not None else "external metrics are not served yet"
            logger.warning("%s; %s, trying again", trouble.rstrip("."), goes_on)
            self._told = trouble
