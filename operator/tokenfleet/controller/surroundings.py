"""What a reconcile knows beside what the API server tells: the routers' word, the autoscaler's, and which nodes are going.

Puts the parts together that listen and decide while this process leads, and asks for a reconcile where they have something new:
another count, other figures for status, or another load that somebody waits for.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from tokenfleet import contract
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller import moments
from tokenfleet.controller.announcement import AWAKE, News, event
from tokenfleet.controller.autoscaling.autoscaler import Autoscaler
from tokenfleet.controller.autoscaling.budget import Budgets
from tokenfleet.controller.autoscaling.known_specs import KnownSpecs
from tokenfleet.controller.autoscaling.metrics import ScalingMetrics
from tokenfleet.controller.cluster import ClusterError
from tokenfleet.controller.costs.costs import Costs
from tokenfleet.controller.costs.metrics import CostMetrics
from tokenfleet.controller.observed import Figures, Json, Load, Observed
from tokenfleet.controller.signals.board import Board
from tokenfleet.controller.signals.figures import Display
from tokenfleet.controller.signals.followers import Followers, address_of
from tokenfleet.controller.store import Key, Store
from tokenfleet.controller.work_queue import WorkQueue

logger = logging.getLogger(__name__)


class Api(Protocol):
    """What is needed of the API; Cluster has it."""

    async def call(self, method: str, path: str) -> Json: ...
    async def post_event(self, event: Json) -> None: ...


class Surroundings:
    """`listen`, and `start` once the store is filled; `stop` at the end. The Reconciler's Senses."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        api: Api,
        registry: CollectorRegistry,
        *,
        identity: str,
        doomed_nodes: Callable[[], frozenset[str]],
        told: Callable[[Key], None] = lambda _: None,
        spot: bool = False,
        address: Callable[[Json], str | None] = address_of,
    ) -> None:
        """identity: who posts Events. told: hears of every LLMDeployment whose load may be another now. spot: whether nodes are
        paid at the price of spot."""
        self._store, self._queue, self._api, self._identity, self._told = store, queue, api, identity, told
        self._doomed_nodes = doomed_nodes
        self.watching: Collection[Key] = ()
        """Whom another load concerns at once."""
        specs, metrics = KnownSpecs(store), ScalingMetrics(registry)
        self.board = Board(clock=time.monotonic, routers_of=self._routers_of, slots_of=specs.slots, changed=self._hear_of_load)
        metrics.routers(self.board.counts)
        self._followers = Followers(store, self.board, address=address)
        self._display = Display(self.board.load, due=queue.add, clock=time.monotonic, call_later=_call_later)
        self._autoscaler = Autoscaler(
            store,
            self.board,
            specs,
            Budgets(api, clock=time.monotonic, answered=self._hear_of_budget),
            metrics,
            told=queue.add,
            awake=self._announce,
            doomed_nodes=doomed_nodes,
            clock=time.monotonic,
            now=time.time,
        )
        self._costs = Costs(
            specs,
            CostMetrics(registry),
            spot=spot,
            use=self.board.use,
            due=queue.add,
            clock=time.monotonic,
            call_later=_call_later,
        )
        self._announcing: set[asyncio.Task[None]] = set()
        store.listen(self._followers.heard)

    def start(self) -> list[asyncio.Task[Any]]:
        """Follow the routers, and decide."""
        self._followers.start()
        self._store.listen(self._autoscaler.changed)
        self._store.listen(self._costs.changed)
        return [asyncio.create_task(self._autoscaler.keep(), name="autoscale")]

    async def stop(self) -> None:
        self._display.stop()
        self._costs.stop()
        await self._followers.stop()

    # --- Senses

    def load(self, key: Key) -> Load | None:
        return self.board.load(key)

    def wanted(self, key: Key) -> int | None:
        return self._autoscaler.wanted(key)

    def scaling(self, key: Key) -> Json | None:
        return self._autoscaler.status(key)

    def scaling_ready(self, key: Key) -> Verdict | None:
        return self._autoscaler.verdict(key)

    def figures(self, key: Key) -> Figures | None:
        return self._display.of(key)

    def doomed_nodes(self) -> frozenset[str]:
        return self._doomed_nodes()

    def cost(self, key: Key, observed: Observed) -> Json | None:
        return self._costs.of(key, observed) if key[0] == contract.KIND else None

    # --- News

    def _routers_of(self, key: Key) -> tuple[Key, ...]:
        """Whose routers serve an LLMDeployment: its own, which may still be there, and those of the LLMRouter that it names."""
        router = self._store.router_of(key)
        return (key,) if router is None else (key, router)

    def _hear_of_load(self, key: Key) -> None:
        if key not in self._store:
            return
        self._autoscaler.heard(key)
        self._display.heard(key)
        self._costs.heard(key)
        self._told(key)
        if key in self.watching:
            self._queue.add(key)

    def _hear_of_budget(self, key: Key) -> None:
        self._autoscaler.heard(key)

    def _announce(self, key: Key, message: str) -> None:
        """A model is awake: nothing of status says so, and how long it took."""
        owner = self._store.get(key)
        if owner is not None:
            now = moments.rfc3339(time.time())
            logger.info("%s: %s", "/".join(key), message)
            task = asyncio.create_task(
                self._post(event(owner, News("Normal", AWAKE, message), now=now, reporter=self._identity))
            )
            self._announcing.add(task)
            task.add_done_callback(self._announcing.discard)

    async def _post(self, found: Json) -> None:
        try:
            await self._api.post_event(found)
        except ClusterError as error:
            logger.warning("%s: an Event was not posted: %s", found["involvedObject"]["name"], error)


def _call_later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)
