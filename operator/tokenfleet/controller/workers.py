"""Those who take LLMDeployments and LLMRouters from the queue and reconcile them, a fixed number at a time.

A worker never dies of a reconcile: what the API answered brings the key back later, and a fault of ours too, with its
traceback in the log.
"""

import asyncio
import logging
from typing import Any

from tokenfleet.controller.cluster import ClusterError, Refused, Stale
from tokenfleet.controller.metrics import Metrics
from tokenfleet.controller.reachability import Reachability
from tokenfleet.controller.reconcile import Reconciler
from tokenfleet.controller.store import Key
from tokenfleet.controller.work_queue import WorkQueue

logger = logging.getLogger(__name__)


class Workers:
    """`start`, then `finish` or cancel."""

    def __init__(
        self, queue: WorkQueue, reconciler: Reconciler, reachability: Reachability, metrics: Metrics, *, count: int
    ) -> None:
        self._queue, self._reconciler, self._reachability, self._metrics = queue, reconciler, reachability, metrics
        self._count = count
        self._ending = False
        self._busy: set[asyncio.Task[Any]] = set()

    def start(self) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self._work(), name=f"worker {number}") for number in range(self._count)]

    async def finish(self, *, seconds: float) -> None:
        """Take nothing more, and wait for what is under way."""
        self._ending = True
        if self._busy:
            await asyncio.wait(self._busy, timeout=seconds)

    async def _work(self) -> None:
        while not self._ending:
            await self._reachability.wait()
            key = await self._queue.get()
            if self._ending:
                return
            turn = asyncio.current_task()
            assert turn is not None
            self._busy.add(turn)
            try:
                await self._turn(key)
            finally:
                self._busy.discard(turn)

    async def _turn(self, key: Key) -> None:
        name = "/".join(key)
        try:
            with self._metrics.timed():
                turn = await self._reconciler.reconcile(key)
        except Stale as error:
            logger.debug("%s: looking again: %s", name, error)
            self._retry(key, "retried")
        except Refused as error:
            logger.error("%s: refused, trying again later: %s", name, error)
            self._retry(key, "retried")
        except ClusterError as error:
            logger.warning("%s: trying again: %s", name, error)
            self._retry(key, "retried")
        except Exception:
            logger.exception("%s: a fault of the controller; trying again later.", name)
            self._retry(key, "failed")
        else:
            self._metrics.count("done")
            self._queue.done(key, wrote=turn.wrote, again_after=turn.again_after)
            for other in turn.others:
                self._queue.add(other)
            if turn.gone:
                self._queue.forget(key)

    def _retry(self, key: Key, result: str) -> None:
        self._metrics.count(result)
        self._queue.failed(key)
