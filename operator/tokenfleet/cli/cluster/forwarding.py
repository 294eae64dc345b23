"""A port of a pod on this machine, by way of the API server, as `kubectl port-forward` has it.

Every connection to the local port is a WebSocket of its own to the API server (v4.channel.k8s.io: a byte that tells the
channel before each message, 0 for data, 1 for an error; the first message of each channel is the port). One thread with one
event loop carries all of them, so that hundreds cost little, and passes each message on as it comes.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import aiohttp

from tokenfleet.cli.cluster.connection import Cluster
from tokenfleet.cli.cluster.session import api_session, request_options
from tokenfleet.cli.errors import CliError, Unreachable

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_CHUNK: Final = 64 << 10
_BACKLOG: Final = 1024
_CLOSE_SECONDS: Final = 5.0

Choose = Callable[[frozenset[str]], str | None]
"""Another pod than those, or None where there is none. Called on a thread of its own."""


class Gone(CliError):
    """The pod cannot be forwarded to: it has ended, or is not there."""


@contextlib.contextmanager
def forwarded(
    cluster: Cluster, *, pod: str, port: int, namespace: str | None = None, choose: Choose | None = None
) -> Iterator[str]:
    """http://127.0.0.1:PORT of the pod's port, as long as the context lasts.

    When the pod goes away, its connections end, and new ones go to the pod that `choose` names, where it is given. Raises
    CliError where the first pod cannot be reached at all, so that a right that is missing is told before anything is sent.
    """
    forward = _Forward(cluster, namespace=namespace or cluster.namespace, pod=pod, port=port, choose=choose)
    with _loop() as loop:
        local = asyncio.run_coroutine_threadsafe(forward.open(), loop).result()
        try:
            yield f"http://127.0.0.1:{local}"
        finally:
            asyncio.run_coroutine_threadsafe(forward.close(), loop).result()


class _Forward:
    """One port of one pod after another, and the connections to it."""

    def __init__(self, cluster: Cluster, *, namespace: str, pod: str, port: int, choose: Choose | None) -> None:
        self._cluster, self._namespace, self._pod, self._port, self._choose = cluster, namespace, pod, port, choose
        self._lost: set[str] = set()
        self._choosing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        self._session = api_session(self._cluster)
        try:
            async with self._stream():
                pass
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK, backlog=_BACKLOG)
        except BaseException:
            await self._session.close()
            raise
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        if self._session is not None:
            await self._session.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it. What cannot be carried is closed, as a pod would that is gone."""
        try:
            async with self._stream() as stream:
                halves = {asyncio.create_task(_outwards(reader, stream)), asyncio.create_task(_inwards(stream, writer))}
                try:
                    await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for half in halves:
                        half.cancel()
                    await asyncio.gather(*halves, return_exceptions=True)
        except (CliError, aiohttp.ClientError, OSError):
            pass
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def _stream(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """To the pod, or where it is gone, to the one that is chosen instead."""
        while True:
            pod = self._pod
            try:
                stream = await self._connect(pod)
            except Gone:
                await self._replace(pod)
                if pod == self._pod:
                    raise
            else:
                break
        try:
            yield stream
        finally:
            await stream.close()

    async def _replace(self, gone: str) -> None:
        async with self._choosing:
            if self._choose is None or gone != self._pod:
                return
            self._lost.add(gone)
            chosen: str | None = await asyncio.to_thread(self._choose, frozenset(self._lost))
            self._pod = chosen or gone

    async def _connect(self, pod: str) -> aiohttp.ClientWebSocketResponse:
        assert self._session is not None
        path = f"api/v1/namespaces/{self._namespace}/pods/{pod}/portforward"
        options: Any = {"params": {"ports": str(self._port)}, "protocols": (_PROTOCOL,), "max_msg_size": 0}
        try:
            stream: aiohttp.ClientWebSocketResponse = await self._session.ws_connect(
                path, **options, **request_options(self._cluster)
            )
        except aiohttp.WSServerHandshakeError as error:
            raise self._refusal(pod, error.status) from error
        except (aiohttp.ClientError, OSError) as error:
            host = self._cluster.api_client.configuration.host
            raise Unreachable(
                f"The cluster at {host} does not answer ({error}): is it up, and is the context the right one?"
            ) from error
        return stream

    def _refusal(self, pod: str, status: int) -> CliError:
        name = f"the pod {self._namespace}/{pod}"
        if status == 401:
            return CliError("The cluster does not know you: log in again, or choose another context with --context.")
        if status == 403:
            return CliError(f"You may not forward to {name}: ask for a role that lets you get and create pods/portforward.")
        return Gone(f"There is no way to {name}: the API server answered {status}. Is it running, and is its node up?")


async def _outwards(reader: asyncio.StreamReader, stream: aiohttp.ClientWebSocketResponse) -> None:
    channel = bytes((_DATA,))
    while data := await reader.read(_CHUNK):
        await stream.send_bytes(channel + data)


async def _inwards(stream: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    begun = set[int]()
    async for message in stream:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            return
        channel = message.data[0]
        if channel not in begun:
            begun.add(channel)
        elif channel == _ERROR:
            return
        elif len(message.data) > 1:
            writer.write(memoryview(message.data)[1:])
            await writer.drain()


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="forwarding", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
