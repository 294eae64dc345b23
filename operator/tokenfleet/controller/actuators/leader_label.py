"""The label by which Services find the controller that leads: only that one knows any load.

Cleared before a process tries to lead, since a container that ended while it led starts again in the same pod; set once it
leads.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.controller.cluster import Refused, Stale, Unavailable

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 2.0


class Pods(Protocol):
    """What is needed of the API; Cluster has it."""

    def label_pod(self, namespace: str, name: str, labels: Mapping[str, str | None]) -> Awaitable[object]: ...


class LeaderLabel:
    """On the pod that this process runs in."""

    def __init__(
        self, api: Pods, *, namespace: str, pod: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._api, self._namespace, self._pod, self._sleep = api, namespace, pod, sleep

    async def clear(self) -> None:
        await self._label(None)

    async def set(self) -> None:
        await self._label("true")

    async def _label(self, value: str | None) -> None:
        """As often as it takes while the API server is away."""
        while True:
            try:
                await self._api.label_pod(self._namespace, self._pod, {contract.LABEL_LEADER: value})
            except Unavailable:
                await self._sleep(AGAIN_SECONDS)
                continue
            except Stale:
                logger.info("There is no pod %s/%s: no Service finds this controller.", self._namespace, self._pod)
            except Refused as error:
                logger.error("Autoscalers will not find this controller, since its pod could not be labelled: %s", error)
            return
