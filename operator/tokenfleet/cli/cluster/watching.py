"""Objects of one kind as they change: listed, and then watched, for as long as somebody looks.

An API server that does not answer for a while is told once, as a sentence, and asked again; it is no end.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tokenfleet.cli.cluster.connection import Cluster, Thing
from tokenfleet.cli.errors import CliError, Unreachable

if TYPE_CHECKING:
    from aiohttp import ClientSession  # which takes longer to load than a look at the fleet

Json = dict[str, Any]
_WATCH_SECONDS: Final = 240
_PATIENCE: Final = (1.0, 2.0, 5.0)
"""Seconds until the next try, the last one from then on."""


@dataclass(frozen=True, slots=True)
class View:
    """All objects as they are at this moment."""

    objects: tuple[Json, ...] = ()
    away: str = ""
    """Why they may be old by now."""


@dataclass(slots=True)
class _Mirror:
    """What is known, and from where a watch goes on."""

    objects: dict[str, Json] = field(default_factory=dict)
    version: str = ""

    def view(self, away: str = "") -> View:
        ordered = sorted(self.objects.values(), key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))
        return View(tuple(ordered), away)

    def take(self, event: Json) -> bool:
        """Whether the watch goes on."""
        body = event["object"]
        if event["type"] == "ERROR":
            return False
        self.version = body["metadata"]["resourceVersion"]
        if event["type"] == "DELETED":
            self.objects.pop(body["metadata"]["uid"], None)
        elif event["type"] != "BOOKMARK":
            self.objects[body["metadata"]["uid"]] = body
        return True


async def views(
    cluster: Cluster, path: str, thing: Thing, selection: Mapping[str, str], *, patience: Sequence[float] = _PATIENCE
) -> AsyncIterator[View]:
    """A view whenever something changed. selection: labelSelector or fieldSelector. Raises CliError where that is refused."""
    import aiohttp

    from tokenfleet.cli.cluster.session import api_session

    mirror, tries = _Mirror(), 0
    async with api_session(cluster) as session:
        while True:
            try:
                found = await asyncio.to_thread(lambda: cluster.read(path, thing, **selection))
                mirror.objects = {one["metadata"]["uid"]: one for one in found["items"]}
                mirror.version, tries = found["metadata"]["resourceVersion"], 0
                yield mirror.view()
                async for event in _events(session, cluster, path, thing, {**selection, "resourceVersion": mirror.version}):
                    if not mirror.take(event):
                        break
                    yield mirror.view()
            except (Unreachable, aiohttp.ClientError, OSError, ValueError) as error:
                if not mirror.version:
                    raise
                yield mirror.view(
                    f"{str(error).rstrip('.') or type(error).__name__}. It is asked again; what is shown may be old."
                )
                await asyncio.sleep(patience[min(tries, len(patience) - 1)])
                tries += 1


async def _events(
    session: "ClientSession", cluster: Cluster, path: str, thing: Thing, query: Mapping[str, str]
) -> AsyncIterator[Json]:
    """Until the server ends the watch, which it does after a while."""
    from tokenfleet.cli.cluster.session import request_options

    asked = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
    async with session.get(path.lstrip("/"), params=asked, **request_options(cluster)) as answer:
        if answer.status == HTTPStatus.GONE:  # too long ago: it is listed anew
            return
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CliError(f"You may not watch {thing.name}: ask for a role that lets you {thing.rights}.")
        answer.raise_for_status()
        pending = b""
        async for chunk in answer.content.iter_any():
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)
