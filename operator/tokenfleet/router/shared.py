"""What all connections of one router share. Holds things, does nothing."""

import asyncio
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from tokenfleet.router.catalog import Catalog
from tokenfleet.router.deadlines import Deadlines
from tokenfleet.router.limits import Limits
from tokenfleet.router.metrics import Metrics
from tokenfleet.router.upstream import Upstreams


@dataclass(slots=True, kw_only=True)
class Shared:
    """Of one router, on one event loop."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    catalog: Catalog
    deadlines: Deadlines
    upstreams: Upstreams
    metrics: Metrics = field(default_factory=Metrics)
    clients: set[Hashable] = field(default_factory=set)
    """Open connections of clients; the server, which makes them, knows their type."""
    held_bytes: int = 0
    """Of bodies that are being read or may have to be sent again."""
    leaving: bool = False
    """SIGTERM has come: each answer asks its client to connect anew, elsewhere."""
    _prefix: str = field(default_factory=lambda: f"{random.getrandbits(64):016x}")
    _count: int = 0

    @classmethod
    def new(cls, limits: Limits, catalog: Catalog, *, clock: Callable[[], float] | None = None) -> "Shared":
        """clock: what deadlines go by; the loop's own where it is None."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(clock or loop.time)
        return cls(loop=loop, limits=limits, catalog=catalog, deadlines=deadlines, upstreams=Upstreams(limits, deadlines))

    def request_id(self) -> bytes:
        """A new one, unique among all routers: a random prefix a process, and a count."""
        self._count += 1
        return f"{self._prefix}{self._count:016x}".encode()
