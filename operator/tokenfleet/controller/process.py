"""The controller as a process: its parts put together, and the order in which they begin and end.

Every replica answers probes; one leads. The leader reads everything, then watches and works. It ends by itself when it
is told to (work under way is finished, the lead given up: 0), when another one leads (at once: 1), or when a part that must
not end has ended (the lead given up: 1).
"""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from kubernetes.aio.client.api_client import ApiClient

from tokenfleet import contract
from tokenfleet.controller import handlers
from tokenfleet.controller.accelerators_file import AcceleratorsFile
from tokenfleet.controller.actuators.gauges import LoadGauges
from tokenfleet.controller.actuators.servers import Servers
from tokenfleet.controller.cluster import Cluster
from tokenfleet.controller.connection import kopf_login
from tokenfleet.controller.feed import Feed
from tokenfleet.controller.goodbyes.notices import Notices
from tokenfleet.controller.health import HealthServer
from tokenfleet.controller.heartbeat import Heartbeat
from tokenfleet.controller.kinds import LLM_DEPLOYMENT, LLM_ROUTER, NODE
from tokenfleet.controller.leadership import Leadership, LostLeadership
from tokenfleet.controller.metrics import Metrics
from tokenfleet.controller.observed import Json
from tokenfleet.controller.reachability import Reachability
from tokenfleet.controller.reconcile import Reconciler
from tokenfleet.controller.resync import Resync
from tokenfleet.controller.store import Store, version_of
from tokenfleet.controller.surroundings import Surroundings
from tokenfleet.controller.work_queue import WorkQueue
from tokenfleet.controller.workers import Workers
from tokenfleet.errors import InvalidSettings
from tokenfleet.settings import ControllerSettings

logger = logging.getLogger(__name__)

FINISH_SECONDS: Final = 10.0
"""What a write under way may take when the process is told to end."""
CANCEL_SECONDS: Final = 2.0
"""What the other tasks may take to end; the process ends without them, too."""


class Process:
    """`run` until a signal; the result is the exit code."""

    def __init__(self, settings: ControllerSettings, client: ApiClient) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._leading = self._synced = False
        self._store, self._queue, self._reachability = Store(), WorkQueue(), Reachability()
        self._heartbeat = Heartbeat(patience=max(3, settings.liveness_seconds * 3 // settings.lease_seconds))
        self._leadership = Leadership(
            namespace=settings.own_namespace,
            name=contract.LEADER_LEASE,
            identity=settings.identity,
            seconds=settings.lease_seconds,
            renewed=self._heartbeat.beat,
        )
        self._cluster = Cluster(client, self._reachability, may_write=self._leadership.may_write)
        self._leadership.use(self._cluster)
        self._metrics = Metrics(
            queue_depth=lambda: len(self._queue),
            deployments=lambda: self._store.count(LLM_DEPLOYMENT),
            routers=lambda: self._store.count(LLM_ROUTER),
        )
        self._resync = Resync(
            self._store, self._queue, self._cluster, namespaces=settings.watch_namespaces, seconds=settings.resync_seconds
        )
        self._feed = Feed(self._store, self._queue, namespaces=settings.watch_namespaces, missed=self._resync.soon)
        self._login = kopf_login(client)
        self._notices = Notices(self._store, self._queue)
        self._surroundings = Surroundings(
            self._store,
            self._queue,
            self._cluster,
            self._metrics.registry,
            identity=settings.identity,
            doomed_nodes=self._notices.nodes,
            told=lambda key: self._servers.changed(key),
            spot=settings.spot,
        )
        self._servers = Servers(settings, self._cluster, LoadGauges(self._surroundings.load))
        self._accelerators = AcceleratorsFile(
            settings.accelerators_file, registry=self._metrics.registry, changed=self._reconcile_all
        )
        reconciler = Reconciler(self._store, self._cluster, settings, senses=self._surroundings)
        self._surroundings.watching = reconciler.watching_load
        self._workers = Workers(
            self._queue,
            reconciler,
            self._reachability,
            self._metrics,
            count=settings.workers,
        )

    async def run(self) -> int:
        self._take_signals()
        server = HealthServer(unhealthy=self._unhealthy, unready=self._unready, registry=self._metrics.registry)
        try:
            await server.start(health_port=self._settings.health_port, metrics_port=self._settings.metrics_port)
        except OSError as error:
            raise InvalidSettings(f"Cannot serve probes and metrics: {error.strerror or error}") from error
        try:
            if not await self._unless_stopped(self._lead()):
                return 0
            return await self._work()
        finally:
            await server.stop()

    async def _lead(self) -> None:
        await self._servers.prepare()
        await self._leadership.acquire()
        self._leading = True
        self._metrics.leader.set(1)

    async def _work(self) -> int:
        """Watch, reconcile and keep the lead, until the end."""
        keeping = asyncio.create_task(self._leadership.keep(), name="keep the lead")
        reading = asyncio.create_task(self._read_everything(), name="read everything")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for the end")
        tasks: list[asyncio.Task[Any]] = [keeping, reading, stopping]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not (keeping.done() or stopping.done()):
                reading.result()
                tasks += self._start_working()
                await asyncio.wait([task for task in tasks if task is not reading], return_when=asyncio.FIRST_COMPLETED)
            return self._why_ended(tasks, stopping)
        finally:
            await self._end(tasks, keeping)

    def _start_working(self) -> list[asyncio.Task[Any]]:
        self._accelerators.look()
        return [
            asyncio.create_task(self._accelerators.keep(), name="read accelerators"),
            *self._surroundings.start(),
            *self._workers.start(),
            asyncio.create_task(self._resync.keep(), name="resync"),
            asyncio.create_task(self._watch(), name="watch"),
            *([asyncio.create_task(self._servers.keep(), name="serve autoscalers")] if self._servers.wanted else []),
        ]

    def _reconcile_all(self) -> None:
        for key in self._store.owners():
            if key[0] == contract.KIND:
                self._queue.add(key)

    async def _watch(self) -> None:
        namespaces = self._settings.watch_namespaces
        nodes = self._notices.hear if await self._may_watch_nodes() else None
        self._heartbeat.listen()
        await handlers.watch(
            handlers.build_registry(self._login, objects=self._feed.hear, leases=self._hear_lease, nodes=nodes),
            handlers.build_settings(lease=contract.LEADER_LEASE),
            namespaces={*namespaces, self._settings.own_namespace} if namespaces else (),
            started=self._take_signals,
        )

    async def _may_watch_nodes(self) -> bool:
        if not self._settings.watch_nodes or self._settings.watch_namespaces:
            return False
        permitted = await self._cluster.may_list(NODE)
        if not permitted:
            logger.warning("Nodes may not be read, so their notices are not seen; the chart's rbac.nodes gives the right to.")
        return permitted

    async def _read_everything(self) -> None:
        await self._resync.begin(self._reachability.wait)
        self._synced = True
        deployments, routers = self._store.count(LLM_DEPLOYMENT), self._store.count(LLM_ROUTER)
        logger.info("Read %d LLMDeployments and %d LLMRouters, %d objects in all.", deployments, routers, len(self._store))

    def _why_ended(self, tasks: list[asyncio.Task[Any]], stopping: asyncio.Task[Any]) -> int:
        if stopping.done():
            return 0
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, LostLeadership):
                    logger.error("%s", error)
                else:
                    logger.error("Cannot go on, ending (%s): %s", task.get_name(), error, exc_info=error)
                return 1
        names = ", ".join(task.get_name() for task in tasks if task.done() and task.get_name() != "read everything")
        logger.error("Cannot go on, ending: %s ended unasked.", names)
        return 1

    async def _end(self, tasks: list[asyncio.Task[Any]], keeping: asyncio.Task[Any]) -> None:
        lost = keeping.done()
        if not lost:
            await self._workers.finish(seconds=FINISH_SECONDS)
        for task in tasks:
            task.cancel()
        await self._surroundings.stop()
        if not lost:
            await self._leadership.release()
        self._metrics.leader.set(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work came to its end before we were told to stop."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            return False
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _hear_lease(self, event: str | None, lease: Json) -> None:
        metadata = lease["metadata"]
        if event != "DELETED" and (metadata["namespace"], metadata["name"]) == (
            self._settings.own_namespace,
            contract.LEADER_LEASE,
        ):
            self._heartbeat.heard(version_of(lease))

    def _unhealthy(self) -> str | None:
        return None if self._heartbeat.alive else "the watch is silent although the API server answers"

    def _unready(self) -> str | None:
        if self._reachability.away:
            return "the API server does not answer"
        return "reading what there is" if self._leading and not self._synced else None
