"""Who of several controllers may write: the holder of a Lease, which it renews for as long as it lives.

kubernetes.aio brings an election of its own, which ends on the first connection that fails, waits five minutes for an
answer, and keeps the Lease when it exits; so this one is ours. As in client-go, other clocks are never trusted: a Lease has
expired when it has not changed for its duration, on our clock. While the API is away nobody can renew, and nobody can take
over: the leader stops writing (`may_write`) when two thirds of the duration have passed, and goes on if the Lease is still
its own when the API is back. Lost is only what another one holds.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from tokenfleet.controller.cluster import ClusterError, Stale
from tokenfleet.controller.kinds import LEASE, Kind
from tokenfleet.controller.observed import Json
from tokenfleet.errors import TokenfleetError

logger = logging.getLogger(__name__)

RELEASE_SECONDS: Final = 3.0


class LostLeadership(TokenfleetError):
    """Another process holds the Lease: end at once."""


class Leases(Protocol):
    """What of the API an election needs; Cluster has it."""

    async def get(self, kind: Kind, namespace: str, name: str, *, seconds: float) -> Json | None: ...

    async def write_lease(self, lease: Json, *, create: bool, seconds: float) -> Json: ...


class Leadership:
    """`acquire`, then `keep` until it raises LostLeadership; `release` on the way out."""

    def __init__(
        self,
        *,
        namespace: str,
        name: str,
        identity: str,
        seconds: int,
        renewed: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`seconds`: how long a Lease is valid; `renewed` is told the resource version of every renewal."""
        self._namespace, self._name, self._identity, self._seconds = namespace, name, identity, seconds
        self._renewed, self._clock, self._sleep, self._jitter = renewed, clock, sleep, jitter
        self._leases: Leases | None = None
        self._lease: Json | None = None
        self._changed_at = 0.0
        self._valid_until = float("-inf")

    @property
    def renew_seconds(self) -> float:
        """Between two renewals."""
        return self._seconds / 3

    def use(self, leases: Leases) -> None:
        """Where the Lease is. Given later, since those who write ask us first."""
        self._leases = leases

    def may_write(self) -> bool:
        """Whether nobody else can be leading: asked before every write."""
        return self._clock() < self._valid_until

    async def acquire(self) -> None:
        """Return once we lead."""
        holder = told = None
        while True:
            try:
                if await self._try():
                    logger.info("Leading, as %s.", self._identity)
                    return
                if self._holder != holder:
                    holder = self._holder
                    logger.info("Standing by: %s leads.", holder)
            except ClusterError as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("Cannot ask for the lead, trying on: %s", error)
            await self._sleep(self._seconds / 6 * (0.8 + 0.4 * self._jitter()))

    async def keep(self) -> None:
        """Renew for ever; raises LostLeadership when another one holds the Lease."""
        while True:
            await self._sleep(self.renew_seconds * (0.9 + 0.2 * self._jitter()))
            try:
                if not await self._try():
                    self._valid_until = float("-inf")
                    raise LostLeadership(f"{self._holder} leads now; this process ends, so that two never do.")
            except ClusterError as error:
                logger.warning("Cannot renew the lead%s: %s", "" if self.may_write() else " and will not write before", error)

    async def release(self) -> None:
        """Let another one lead at once; we may not write any more."""
        held, self._valid_until = self._lease, float("-inf")
        if held is None or self._holder != self._identity:
            return
        try:
            await self._write({**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}, RELEASE_SECONDS)
            logger.info("Gave up the lead.")
        except ClusterError as error:
            logger.warning("Could not give up the lead, so another one must wait %s s: %s", self._seconds, error)

    @property
    def _holder(self) -> str:
        return str(self._lease["spec"].get("holderIdentity") or "") if self._lease else ""

    async def _try(self) -> bool:
        """Take or renew the Lease if it is ours, nobody's or expired. Whether we hold it."""
        began = self._clock()
        if self._lease is None or self._holder != self._identity:
            await self._look()
        if self._lease is not None and self._holder not in ("", self._identity) and not self._expired():
            return False
        try:
            await self._write(self._next_spec(), self.renew_seconds)
        except Stale:
            await self._look()
            if self._holder not in ("", self._identity):
                return False
            await self._write(self._next_spec(), self.renew_seconds)
        self._valid_until = began + self._seconds * 2 / 3
        assert self._lease is not None
        self._renewed(int(self._lease["metadata"]["resourceVersion"]))
        return True

    async def _look(self) -> None:
        assert self._leases is not None
        lease = await self._leases.get(LEASE, self._namespace, self._name, seconds=self.renew_seconds)
        if lease is None or self._lease is None or _version(lease) != _version(self._lease):
            self._changed_at = self._clock()
        self._lease = lease

    def _expired(self) -> bool:
        assert self._lease is not None
        return bool(self._clock() - self._changed_at > self._lease["spec"].get("leaseDurationSeconds", 0))

    def _next_spec(self) -> Json:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        spec = self._lease["spec"] if self._lease else {}
        ours = spec.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": spec.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": spec.get("leaseTransitions", 0) + (not ours),
        }

    async def _write(self, spec: Json, seconds: float) -> None:
        assert self._leases is not None
        metadata = self._lease["metadata"] if self._lease else {"namespace": self._namespace, "name": self._name}
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
        self._lease = await self._leases.write_lease(lease, create=self._lease is None, seconds=seconds)
        self._changed_at = self._clock()


def _version(lease: Json) -> str:
    return str(lease["metadata"]["resourceVersion"])
