"""Listing everything anew: at the start, now and then, and when the watch may have missed something.

kopf does not tell what vanished while a watch was broken, and any watch may have a bug: what a listing finds is the truth, so
the store is brought in line with it and everything is reconciled. Nothing is written where nothing differs.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.controller.cluster import ClusterError
from tokenfleet.controller.kinds import OWNERS, STORED, Kind
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Place, Store, place_of
from tokenfleet.controller.work_queue import WorkQueue

logger = logging.getLogger(__name__)

BEGIN_SECONDS: Final = 2.0
"""Between two attempts to read everything at the start."""
FIRST_SECONDS: Final = 60.0
"""The first listing after the start comes early: between ours and the watch's own, something may have been removed."""
SOON_SECONDS: Final = 2.0
"""Broken watches come back together: one listing serves them all."""
SPREAD: Final = 0.2
"""The share of the period over which the reconciles of a regular resync are spread."""


class Listing(Protocol):
    """What a resync needs of the API; Cluster has it."""

    async def serves(self, kind: Kind) -> bool: ...

    def pages(self, kind: Kind, namespace: str | None, *, selector: str = "") -> AsyncIterator[tuple[list[Json], int]]: ...


class Resync:
    """`begin` at the start, then `keep` for ever."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        api: Listing,
        *,
        namespaces: Collection[str],
        seconds: float,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._queue, self._api = store, queue, api
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._seconds, self._jitter, self._sleep = seconds, jitter, sleep
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """Something may have been missed."""
        self._wanted.set()

    async def begin(self, reachable: Callable[[], Awaitable[None]]) -> None:
        """Fill the store, as long as it takes: whoever works from half of it would make what is there already."""
        told: list[str] = []
        while True:
            await reachable()
            try:
                missing = [kind.name for kind in OWNERS if not await self._api.serves(kind)]
                if not missing:
                    return await self.once()
                if missing != told:
                    logger.warning("Not in the API: waiting for the CRD of %s.", " and ".join(missing))
                told = missing
            except ClusterError as error:
                logger.warning("Cannot read everything yet, trying on: %s", error)
            await self._sleep(BEGIN_SECONDS)

    async def once(self) -> None:
        """Bring the store in line with the API. Raises ClusterError where a listing fails; what was read so far is kept."""
        for kind in STORED:
            for namespace in self._namespaces:
                await self._list(kind, namespace)

    async def keep(self) -> None:
        """Resync every period, and soon after `soon`. Failures are told, and tried again as after `soon`."""
        period = min(FIRST_SECONDS, self._seconds)
        while True:
            asked = await self._asked_within(period * (0.9 + 0.2 * self._jitter()))
            if asked:
                await self._sleep(SOON_SECONDS * (0.5 + self._jitter()))
            self._wanted.clear()
            try:
                await self.once()
            except ClusterError as error:
                logger.warning("Could not list everything, trying again: %s", error)
                self.soon()
                continue
            period = self._seconds
            for key in self._store.owners():
                self._queue.add_later(key, 0.0 if asked else self._jitter() * SPREAD * self._seconds)

    async def _asked_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            return False
        return True

    async def _list(self, kind: Kind, namespace: str | None) -> None:
        selector = "" if kind in OWNERS else contract.LABEL_ROLE
        found: set[Place] = set()
        version = 0
        async for items, as_of in self._api.pages(kind, namespace, selector=selector):
            version = as_of
            for body in items:
                found.add(place_of(body))
                for key in self._store.put(body):
                    self._queue.add(key)
        for key in self._store.forget_unlisted(kind.name, found, namespace=namespace, version=version):
            self._queue.add(key)
