"""The probes and the metrics, over HTTP, from the same loop that does the work: where that is stuck, they do not answer.

/healthz fails when the watch is dead, and a restart helps. /readyz says whether this replica does its part: it leads and has
read everything, or it stands by.
"""

from collections.abc import Awaitable, Callable

import aiohttp.web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Verdict = Callable[[], str | None]
"""What is wrong, or None."""
_Handler = Callable[[aiohttp.web.Request], Awaitable[aiohttp.web.StreamResponse]]


class HealthServer:
    """Serves from `start` until `stop`."""

    def __init__(self, *, unhealthy: Verdict, unready: Verdict, registry: CollectorRegistry) -> None:
        self._unhealthy, self._unready, self._registry = unhealthy, unready, registry
        self._runners: list[aiohttp.web.AppRunner] = []

    async def start(self, *, health_port: int, metrics_port: int, host: str | None = None) -> None:
        """Raises OSError where a port is taken."""
        await self._listen(host, health_port, {"/healthz": self._probe(self._unhealthy), "/readyz": self._probe(self._unready)})
        await self._listen(host, metrics_port, {"/metrics": self._metrics})

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _listen(self, host: str | None, port: int, routes: dict[str, _Handler]) -> None:
        app = aiohttp.web.Application()
        app.add_routes([aiohttp.web.get(path, handler) for path, handler in routes.items()])
        runner = aiohttp.web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.5)
        self._runners.append(runner)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, host, port).start()

    def _probe(self, verdict: Verdict) -> _Handler:
        async def answer(_: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
            wrong = verdict()
            return aiohttp.web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

        return answer

    async def _metrics(self, _: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        body = generate_latest(self._registry)
        return aiohttp.web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
