"""A long-lived connection to each router pod: one task a pod, which reads its reports as long as the pod is there.

Which pods there are is read off the store, whenever it tells of a router pod. A connection that breaks is made anew, sooner at
first and later then, with jitter; that of a router that does not know the path yet (an older one) likewise. Pods that are being
deleted are followed to their end.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

import aiohttp

from tokenfleet import contract
from tokenfleet.controller import pods
from tokenfleet.controller.kinds import POD
from tokenfleet.controller.observed import Json
from tokenfleet.controller.signals.board import LOST_SECONDS, Board, Source
from tokenfleet.controller.signals.report import InvalidReport, decode
from tokenfleet.controller.store import Key, Place, Store

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""Between two attempts: at first, and at most."""
AT_ONCE: Final = 64
"""Connections that are being made; the others wait for their turn."""
_LOOK_SECONDS: Final = 0.1
"""Between a pod's event and the look at its owner's pods: they come in flocks."""
_LINE_BYTES: Final = 4 * 1024 * 1024
"""Of one report at most; twice that breaks the connection."""


def address_of(pod: Json) -> str | None:
    """Where its reports are; None while it has no address, or its containers do not run."""
    ip = (pod.get("status") or {}).get("podIP")
    if not ip or pods.phase(pod) != "Running":
        return None
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{contract.ROUTER_ADMIN_PORT}{contract.PATH_ROUTER_REPORTS}"


class Followers:
    """`start` when the store is filled, then `stop`."""

    def __init__(self, store: Store, board: Board, *, address: Callable[[Json], str | None] = address_of) -> None:
        self._store, self._board, self._address = store, board, address
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[Key, dict[str, tuple[asyncio.Task[None], Source]]] = {}
        """By owner, then by the pod's uid."""
        self._concerned: set[Key] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=contract.REPORT_STALE_SECONDS - LOST_SECONDS
            ),
            read_bufsize=_LINE_BYTES,
            auto_decompress=False,
            trust_env=False,
        )
        for owner in self._store.owners():
            self._look(owner)

    async def stop(self) -> None:
        """End all connections."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for followed in self._tasks.values() for task, _ in followed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def heard(self, place: Place, owner: Key) -> None:
        """The store has news of this object, which belongs to that owner."""
        if self._session is None or place[0] != POD.name:
            return
        self._concerned.add(owner)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_at_all)

    def _look_at_all(self) -> None:
        self._timer = None
        concerned, self._concerned = self._concerned, set()
        for owner in concerned:
            self._look(owner)

    def _look(self, owner: Key) -> None:
        """Follow the router pods that this owner has now, and no others."""
        found = {pod["metadata"]["uid"]: pod for pod in self._store.pods(owner, role=contract.ROLE_ROUTER)}
        followed = self._tasks.get(owner, {})
        for uid in followed.keys() - found.keys():
            followed.pop(uid)[0].cancel()
            self._board.remove(uid, owner)
        for uid, pod in found.items():
            ready = pods.is_ready(pod) and not pods.is_going(pod)
            if uid in followed:
                self._board.set_ready(followed[uid][1], ready)
            elif (address := self._address(pod)) is not None:
                source = self._board.add(uid, owner, ready=ready)
                task = asyncio.create_task(self._follow(source, address), name=f"follow {pod['metadata']['name']}")
                followed[uid] = task, source
        if followed:
            self._tasks[owner] = followed
        else:
            self._tasks.pop(owner, None)

    async def _follow(self, source: Source, address: str) -> None:
        """For ever. Only cancelling ends it."""
        first, most = BACKOFF_SECONDS
        pause = first
        while True:
            try:
                if await self._listen(source, address):
                    pause = first
            except Exception as error:  # noqa: BLE001 - whatever a router does or sends, it is followed again
                logger.debug("%s: %s: %s", address, type(error).__name__, error)
            self._board.lost(source)
            asyncio.get_running_loop().call_later(LOST_SECONDS + 0.1, self._board.faded, source)
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(most, pause * 2)

    async def _listen(self, source: Source, address: str) -> bool:
        """One connection, to its end. Whether it told anything."""
        assert self._session is not None
        told = False
        async with self._turns:
            response = await self._session.get(address)
        async with response:
            if response.status != 200:
                raise InvalidReport(f"it answered {response.status}")
            while line := await response.content.readline():
                if line == b"\n":
                    self._board.heard(source)
                else:
                    self._board.told(source, decode(line))
                    told = True
        return told
