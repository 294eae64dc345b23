"""An API server that only forwards ports, and the pods behind it: TCP servers of the tests, reached by name."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from kubernetes.client import ApiClient, Configuration

from tokenfleet.cli.cluster.connection import Cluster


@dataclass
class ForwardServer:
    """pods: by name, the local port that stands for theirs."""

    pods: dict[str, int] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    """By path, what else a GET is answered with; a number: that status."""
    refused: int | None = None
    """Every forward is answered with this status."""
    tokens: list[str] = field(default_factory=list)
    """The Authorization header of each forward."""
    url: str = ""

    def cluster(self, token: str = "secret") -> Cluster:
        configuration = Configuration(host=self.url, api_key={"authorization": f"Bearer {token}"})
        return Cluster(ApiClient(configuration), namespace="default")

    @contextlib.contextmanager
    def running(self) -> Iterator["ForwardServer"]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), loop).result()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/portforward", self._forward)
        app.router.add_get("/{path:.*}", self._object)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        address: Any = runner.addresses[0]
        self.url = f"http://127.0.0.1:{address[1]}"
        return runner

    async def _object(self, request: web.Request) -> web.Response:
        found = self.objects.get(request.path, 404)
        return web.Response(status=found) if isinstance(found, int) else web.json_response(found)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.refused is not None:
            return web.Response(status=self.refused)
        if (local := self.pods.get(request.match_info["pod"])) is None:
            return web.Response(status=404)
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",), max_msg_size=0)
        await stream.prepare(request)
        port = int(request.query["ports"]).to_bytes(2, "little")
        for channel in (b"\0", b"\1"):
            await stream.send_bytes(channel + port)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
        except OSError as error:
            await stream.send_bytes(b"\1" + str(error).encode())
            return stream
        back = asyncio.create_task(_back(reader, stream))
        async for message in stream:
            if message.type is WSMsgType.BINARY and message.data[0] == 0:
                writer.write(message.data[1:])
                await writer.drain()
        back.cancel()
        writer.close()
        return stream


async def _back(reader: asyncio.StreamReader, stream: web.WebSocketResponse) -> None:
    while data := await reader.read(65_536):
        await stream.send_bytes(b"\0" + data)
    await stream.close()
