"""Logs from the API server: what there is, in the order in which it was said; and what is said from now on, by pods to come."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import aiohttp

from tokenfleet.cli.cluster.connection import Cluster, Thing
from tokenfleet.cli.cluster.session import api_session, request_options
from tokenfleet.cli.cluster.watching import views
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.logs.selection import Source, sources

_AGAIN_SECONDS: Final = 1.0
_AT_ONCE_SECONDS: Final = 2.0
"""In which the log of a container that has ended is given again."""
_LONGEST: Final = 1 << 20


class Line(NamedTuple):
    """By time, which is RFC 3339 in UTC with nanoseconds, so that text sorts."""

    time: str
    source: Source
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of each log."""

    tail: int | None = None
    since_seconds: int | None = None
    since_time: str | None = None
    previous: bool = False

    def query(self, source: Source, *, follow: bool) -> dict[str, str]:
        asked = {"container": source.container, "timestamps": "true", "follow": str(follow).lower()}
        optional: dict[str, Any] = {"tailLines": self.tail, "sinceSeconds": self.since_seconds, "sinceTime": self.since_time}
        asked |= {name: str(value) for name, value in optional.items() if value is not None}
        return {**asked, "previous": "true"} if self.previous else asked


class Logs:
    """Of the pods that a selector chooses in one namespace. Used on one loop, within `async with`."""

    def __init__(self, cluster: Cluster, *, namespace: str, selector: str, role: str | None) -> None:
        self._cluster, self._namespace, self._selector, self._role = cluster, namespace, selector, role
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._newest: dict[tuple[str, str], Source] = {}
        self._told: dict[tuple[str, str], str] = {}
        """By pod and container, when the last line was that was written."""
        self._thing = Thing(f"the pods in the namespace {namespace}", rights="list and watch pods, and get pods/log")

    async def __aenter__(self) -> "Logs":
        self._session = api_session(self._cluster)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def sources(self) -> list[Source]:
        found = await asyncio.to_thread(self._cluster.read, self._path, self._thing, labelSelector=self._selector)
        return sources(found["items"], self._role)

    async def there(self, chosen: Iterable[Source], extent: Extent) -> Iterable[Line]:
        """What they have said, all together in the order of time."""
        return heapq.merge(*await asyncio.gather(*(self._whole(source, extent) for source in chosen)))

    async def follow(self, extent: Extent, write: Callable[[Line], None], tell: Callable[[str], None]) -> None:
        """Until cancelled. tell: for an API server that is away, once."""
        running: dict[Source, asyncio.Task[None]] = {}
        away, wanted = "", extent
        try:
            async for view in views(self._cluster, self._path, self._thing, {"labelSelector": self._selector}):
                if view.away and view.away != away:
                    tell(view.away)
                away = view.away
                for source in sources(view.objects, self._role):
                    known = replace(source, restarts=0)
                    if source.run and known not in running:
                        running[known] = asyncio.create_task(self._go_on(source, wanted, write))
                wanted = Extent()  # of what comes while somebody looks, all
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _go_on(self, source: Source, extent: Extent, write: Callable[[Line], None]) -> None:
        """One container's log to its end. A stream that ends later than at once may have been cut, so it is taken up again.

        It may then be that of the container's next run; times tell what was written already, whichever run wrote it.
        """
        name, clock = (source.pod, source.container), asyncio.get_running_loop().time
        self._newest[name] = source
        while self._newest[name] == source:
            began, news = clock(), False
            try:
                async for line in self._stream(source, extent, follow=True):
                    if line.time > self._told.get(name, ""):
                        write(line)
                        self._told[name], news = line.time, True
                if not news and clock() - began < _AT_ONCE_SECONDS:
                    return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_AGAIN_SECONDS)
            except CliError:
                return
            if last := self._told.get(name):
                extent = Extent(since_time=last[:19] + "Z")

    async def _whole(self, source: Source, extent: Extent) -> list[Line]:
        return [line async for line in self._stream(source, extent, follow=False)]

    async def _stream(self, source: Source, extent: Extent, *, follow: bool) -> AsyncIterator[Line]:
        path = f"{self._path}/{source.pod}/log".lstrip("/")
        options = request_options(self._cluster)
        async with self._session.get(path, params=extent.query(source, follow=follow), **options) as answer:
            if answer.status == 403:
                raise CliError(
                    f"You may not read the log of {self._namespace}/{source.pod}: ask for a role that lets you get pods/log."
                )
            if answer.status in (400, 404):  # it has not started, or is gone
                return
            answer.raise_for_status()
            pending = b""
            async for chunk in answer.content.iter_any():
                *lines, pending = (pending + chunk)[-_LONGEST:].split(b"\n")
                for line in lines:
                    yield _line(source, line)
            if pending:
                yield _line(source, pending)


def _line(source: Source, raw: bytes) -> Line:
    time, _, text = raw.decode(errors="replace").partition(" ")
    return Line(time, source, text.rstrip("\r"))
