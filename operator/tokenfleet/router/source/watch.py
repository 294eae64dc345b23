"""A mirror of one list of Kubernetes' objects: list, watch from there, list again when that is too old; endlessly.

Rides on kubernetes.aio's ApiClient (credentials, their refresh, TLS) with raw answers, not on its Watch: that one keeps
asking from a version that is gone (410), decodes whole models, and has no deadline against a connection that went silent.
After a refusal or a failure of TLS the client is made anew, so that a rotated token or CA is read again. While the API is
away the mirror keeps what it last knew.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from tokenfleet.router.source.cluster_objects import ClusterObject

log = logging.getLogger(__name__)

Object = TypeVar("Object", bound=ClusterObject)
Connect = Callable[[], Awaitable[Any]]
"""Makes a kubernetes.aio ApiClient with the credentials of this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the watch waits, in seconds."""

    connect: float = 5.0
    list: float = 30.0
    server: int = 300
    """After which the API server ends a watch by itself."""
    silence: float = 75.0
    """Without a byte; bookmarks come about once a minute, and watching anew from where we are is cheap."""
    breather: float = 1.0
    """Watches that end well begin this far apart at least."""
    backoff: float = 0.5
    backoff_limit: float = 30.0


class Expired(Exception):
    """410: the version that we know is too old to watch from."""

    def __init__(self) -> None:
        super().__init__("the version watched from is gone, listing anew")


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.retry_after = retry_after


class _ListMetadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _List(msgspec.Struct, Generic[Object], frozen=True):
    metadata: _ListMetadata
    items: list[Object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Generic[Object]):
    """Which objects."""

    resource: str
    """For people and metrics."""
    path: str
    kind: type[Object]
    selector: tuple[tuple[str, str], ...]
    """labelSelector or fieldSelector."""


class Mirror(Generic[Object]):
    """The objects of one source, as last seen; `changed` gets all of them, after each change."""

    def __init__(
        self,
        source: Source[Object],
        connect: Connect,
        changed: Callable[[list[Object]], None],
        *,
        failed: Callable[[str], None],
        patience: Patience | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._source = source
        self._connect = connect
        self._changed = changed
        self._failed = failed
        self._patience = patience or Patience()
        self._uniform = uniform
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._failures = 0
        self._list_decoder = msgspec.json.Decoder(_List[source.kind])  # type: ignore[name-defined]
        self._decoder = msgspec.json.Decoder(source.kind)

    async def follow(self) -> None:
        """For ever. Only cancelling ends it."""
        client: Any = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                try:
                    client = client or await self._connect()
                    await self._once(client)
                    short = self._patience.breather - (loop.time() - began)
                    pause = self._uniform(short / 2, short) if short > 0 else 0.0
                except Exception as error:  # noqa: BLE001 - a router outlives whatever goes wrong with its watch
                    pause = self._fail(error)
                    if isinstance(error, (Refused, aiohttp.ClientSSLError)):
                        await _close(client)
                        client = None
                await asyncio.sleep(pause)
        finally:
            await _close(client)

    def _fail(self, error: Exception) -> float:
        """Count a failure; how long to wait after it. Whatever is not the connection's fault needs a new list."""
        self._failures += 1
        self._failed(self._source.resource)
        if not isinstance(error, (OSError, aiohttp.ClientError)):
            self._version = ""
        limit = min(self._patience.backoff_limit, self._patience.backoff * 2.0 ** min(self._failures - 1, 16))
        pause = self._uniform(limit / 2, limit)
        if isinstance(error, Refused):
            pause = max(pause, error.retry_after)
        why = str(error) or type(error).__name__
        log.warning("%s: %s; trying again in %.1f s with what was last known", self._source.resource, why, pause)
        return pause

    async def _once(self, client: Any) -> None:
        """List where needed, then one watch, to its end."""
        if not self._version:
            await self._list(client)
        await self._watch(client)
        self._failures = 0

    async def _list(self, client: Any) -> None:
        response = await self._get(client, (), aiohttp.ClientTimeout(total=self._patience.list))
        async with response:
            await _check(response)
            found = self._list_decoder.decode(await response.read())
        self._objects = {item.metadata.uid: item for item in found.items}
        self._version = found.metadata.resource_version
        self._report()

    async def _watch(self, client: Any) -> None:
        patience = self._patience
        query = (
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(int(self._uniform(0.8, 1.2) * patience.server))),
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.silence)
        response = await self._get(client, query, timeout)
        async with response:
            await _check(response)
            try:
                while line := await response.content.readline():
                    self._apply(msgspec.json.decode(line, type=_Event))
                    self._failures = 0
            except aiohttp.SocketTimeoutError:
                log.debug("%s: nothing came for a while; watching anew", self._source.resource)

    def _apply(self, event: _Event) -> None:
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == 410:
                raise Expired
            raise Refused(status.code, status.message)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=ClusterObject).metadata.resource_version
            return
        item = self._decoder.decode(event.object)
        self._version = item.metadata.resource_version
        if event.type == "DELETED":
            self._objects.pop(item.metadata.uid, None)
        else:
            self._objects[item.metadata.uid] = item
        self._report()

    def _report(self) -> None:
        self._changed(list(self._objects.values()))

    async def _get(self, client: Any, query: tuple[tuple[str, str], ...], patience: aiohttp.ClientTimeout) -> Any:
        method, url, headers, _, _ = await client.param_serialize(
            "GET",
            self._source.path,
            query_params=[*self._source.selector, *query],
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = await client.call_api(method, url, headers, _request_timeout=patience)
        return answer.response


async def _check(response: Any) -> None:
    if response.status == 200:
        return
    if response.status == 410:
        raise Expired
    text = await response.content.read(4096)
    try:
        message = msgspec.json.decode(text, type=_Status).message
    except msgspec.DecodeError:
        message = text.decode("utf-8", "replace")
    after = response.headers.get("Retry-After", "")
    raise Refused(response.status, message, retry_after=min(60.0, float(after)) if after.isdecimal() else 0.0)


async def _close(client: Any) -> None:
    if client is not None:
        await client.close()
