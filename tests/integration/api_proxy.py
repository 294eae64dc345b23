"""A proxy in front of the API server that tests use to see, count and disturb what a controller sends.

Plain HTTP towards the controller, so that requests can be told apart; the administrator's certificate towards the API server.
It runs in a thread of its own, since tests are not asynchronous.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import aiohttp.web
import yaml

from e2e.cluster.control_plane import ControlPlane, free_ports


class ApiProxy:
    """While the `with` lasts, `kubeconfig` leads through it."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self._server = plane.layout.server
        self._tls = ssl.create_default_context(cafile=plane.layout.authority.certificate)
        pair = plane.layout.authority.pair("admin")
        self._tls.load_cert_chain(pair.certificate, pair.key)
        (self._port,) = free_ports(1)
        self.kubeconfig = _kubeconfig(directory / f"proxy-{self._port}.yaml", self._port)
        self.writes = 0
        """Leases left out."""
        self.after_write: Callable[[int], None] = lambda _: None
        """Called with the number of each write when the API server has done it, and before its answer goes back."""
        self.watches_are_silent = False
        """Watches that there are and new ones stay open, and no event comes through them."""
        self.answers_instead: int | None = None
        """Every request is answered with this status."""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = aiohttp.web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = aiohttp.web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await aiohttp.web.TCPSite(runner, "127.0.0.1", self._port).start()
            self._started.set()
            await self._end.wait()
            await runner.cleanup()

    async def _handle(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        headers = {name: request.headers[name] for name in ("Accept", "Content-Type", "User-Agent") if name in request.headers}
        body = await request.read()
        if self.answers_instead is not None:
            return aiohttp.web.json_response({"kind": "Status", "code": self.answers_instead}, status=self.answers_instead)
        url = self._server + request.path_qs
        async with self._session.request(
            request.method, url, data=body or None, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        ) as answer:
            kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            if "watch" in request.query:
                response = aiohttp.web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    if self.answers_instead is not None:
                        break
                    if not self.watches_are_silent:
                        await response.write(chunk)
                return response
            data = await answer.read()
            if request.method != "GET" and "/leases" not in request.path:
                self.writes += 1
                self.after_write(self.writes)
            return aiohttp.web.Response(status=answer.status, body=data, headers=kept)


def _kubeconfig(path: Path, port: int) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "proxy", "user": {}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
