"""kopf's part: it watches, and tells every event to the store, which tells the queue. No handler holds any logic.

Only kopf's low-level events are used: its other handlers keep finalizers and their last state on the objects, and we write
neither. Children and pods are watched by our label alone, so what else a cluster holds costs nothing. Requests are repeated
for ever, and every stream has a time after which its silence counts as its end.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, cast

import kopf

from tokenfleet import contract
from tokenfleet.controller.kinds import CHILDREN, LEASE, NODE, OWNERS, POD, Kind
from tokenfleet.controller.observed import Json

WATCH_SECONDS: Final = 300
"""How long the API server keeps one watch request open."""
SILENCE_SECONDS: Final = 75.0
"""Without even a bookmark, of which the API server sends one a minute, a stream counts as dead."""
REQUEST_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 10.0
PAGE: Final = 500
BACKOFF_CAP_SECONDS: Final = 8.0

Listener = Callable[[str | None, Json], None]
"""Told (type, object) of every event; the type is ADDED, MODIFIED, DELETED, or None for an object that was listed."""


class EndlessBackoff:
    """Seconds between two attempts of a request, without an end; as an iterable without a length, kopf never gives up."""

    def __iter__(self) -> Iterator[float]:
        ceiling = 0.25
        while True:
            yield ceiling * (0.5 + random.random() / 2)
            ceiling = min(BACKOFF_CAP_SECONDS, ceiling * 2)


class NoDiffBase(kopf.DiffBaseStorage):
    """kopf compares an object with what it last handled, even for handlers that do not ask: here are no such copies."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


class NoProgress(kopf.ProgressStorage):
    """kopf's notes on handlers that it would have to call again; low-level events have none."""

    def fetch(self, **_: Any) -> kopf.ProgressRecord | None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def build_registry(
    connect: Callable[..., Any], *, objects: Listener, leases: Listener, nodes: Listener | None = None
) -> kopf.OperatorRegistry:
    """kopf's handlers: `connect` gives credentials, `objects` hears of everything stored, `leases` of the leader's Lease.

    nodes: hears of all nodes; None: they are not watched.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(connect)
    for kind in (*OWNERS, *CHILDREN, POD):
        _listen(registry, kind, objects)
    _listen(registry, LEASE, leases)
    if nodes is not None:
        _listen(registry, NODE, nodes)
    return registry


def build_settings(*, lease: str) -> kopf.OperatorSettings:
    """`lease`: the name of the leader's Lease."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = EndlessBackoff()
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    settings.watching.chunk_size = PAGE
    for kind in (*CHILDREN, POD):
        settings.watching.label_selectors[_selector(kind)] = contract.LABEL_ROLE
    settings.watching.field_selectors[_selector(LEASE)] = f"metadata.name={lease}"
    return settings


async def watch(
    registry: kopf.OperatorRegistry,
    settings: kopf.OperatorSettings,
    *,
    namespaces: Collection[str],
    started: Callable[[], None],
) -> None:
    """Watch until cancelled; raises where kopf cannot go on. Without namespaces, the whole cluster.

    `started` is called once kopf has taken over the process's signals, for others to take them back. kopf's own way to end
    (run_tasks) waits for requests that it repeats for ever; here the first of its tasks that ends, ends it all.
    """
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=settings, clusterwide=not namespaces, namespaces=namespaces, standalone=True
    )
    started()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


def _selector(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural


def _listen(registry: kopf.OperatorRegistry, kind: Kind, listener: Listener) -> None:
    async def hear(event: kopf.RawEvent, **_: Any) -> None:
        listener(event["type"], cast(Json, event["object"]))

    kopf.on.event(*_selector(kind), registry=registry, id=kind.plural)(hear)
