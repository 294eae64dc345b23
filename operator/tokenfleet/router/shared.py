"""What all connections of one router share. Holds things, does next to nothing."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenfleet.router.balancing.replicas import Replicas
from tokenfleet.router.callers.keys import Everybody, Keyring
from tokenfleet.router.callers.rates import LocalRates, Rates
from tokenfleet.router.catalog import Catalog
from tokenfleet.router.news import News
from tokenfleet.router.queue.shedding import Shedder
from tokenfleet.router.rejections import LEAVING, Rejected
from tokenfleet.router.reporting.journal import Journal
from tokenfleet.router.reporting.metrics import Metrics
from tokenfleet.router.terms import DEFAULT, Terms
from tokenfleet.router.wire.deadlines import Deadlines
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.tls import Certificates
from tokenfleet.router.wire.upstream import Upstreams

if TYPE_CHECKING:
    from tokenfleet.router.durable.worker import AsyncWorker


@dataclass(slots=True, kw_only=True)
class Shared:
    """Of one router, on one event loop."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    catalog: Catalog
    deadlines: Deadlines
    upstreams: Upstreams
    rates: Rates
    metrics: Metrics
    journal: Journal
    shedder: Shedder
    news: News
    keyring: Keyring | Everybody = field(default_factory=Everybody)
    async_worker: "AsyncWorker | None" = None
    """None: there is no durable queue."""
    certificates: Certificates | None = None
    """None: the traffic port speaks plain HTTP."""
    clients: set[Hashable] = field(default_factory=set)
    """Open connections, whose type the server knows, and what of the durable queue runs here: a goodbye waits for all."""
    fleet: Mapping[str, tuple[Replicas, ...]] = field(default_factory=dict)
    """By LLMDeployment all replicas that the source knows, those too that get no requests: of a canary, say."""
    held_bytes: int = 0
    """Of bodies that are being read or may have to be sent again."""
    access_log: str = DEFAULT.access_log
    """Requests that are told of in the access log."""
    leaving: bool = False
    """SIGTERM has come: each answer asks its client to connect anew, elsewhere."""
    _prefix: bytes = field(default_factory=lambda: b"%016x" % random.getrandbits(64))
    _count: int = 0

    @classmethod
    def new(cls, limits: Limits, *, clock: Callable[[], float] | None = None) -> "Shared":
        """clock: what deadlines, limits and queues go by; the loop's own where it is None."""
        loop = asyncio.get_running_loop()
        clock = clock or loop.time
        deadlines, metrics = Deadlines(clock), Metrics()
        return cls(
            loop=loop,
            limits=limits,
            catalog=Catalog(clock, deadlines),
            deadlines=deadlines,
            upstreams=Upstreams(limits, deadlines),
            rates=LocalRates(clock),
            shedder=Shedder(random.random),
            news=News(clock),
            metrics=metrics,
            journal=Journal(metrics.ended),
        )

    def adopt(self, terms: Terms) -> None:
        """Take what the spec says of the router as a whole."""
        self.access_log = terms.access_log
        self.limits = dataclasses.replace(
            self.limits, body_bytes=terms.bounds.max_body_bytes, peer_connections=terms.max_connections_per_peer
        )

    def evict_queues(self) -> None:
        """This router leaves: whoever waits in a queue is better off with another."""
        for model in self.catalog.models():
            model.queue.evict_all(self.goodbye())

    def goodbye(self) -> Rejected:
        """The refusal of whoever would have to wait while this router leaves."""
        return Rejected(LEAVING, "This router is shutting down. Send the request again: another one takes it.")

    def request_id(self) -> bytes:
        """A new one, unique among all routers: a random prefix a process, and a count."""
        self._count += 1
        return b"%b%016x" % (self._prefix, self._count)
