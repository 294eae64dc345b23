"""The servers that autoscalers of others ask, where the settings turn them on; only the controller that leads runs them."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from tokenfleet.controller.actuators.gauges import Gauges
from tokenfleet.controller.actuators.leader_label import LeaderLabel
from tokenfleet.controller.actuators.metrics_server import MetricsServer
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Key
from tokenfleet.settings import ControllerSettings

STOP_SECONDS = 0.5


class Api(Protocol):
    """What is needed of the API; Cluster has it."""

    def call(self, method: str, path: str, body: Json | None = None) -> Awaitable[Json]: ...
    def label_pod(self, namespace: str, name: str, labels: Mapping[str, str | None]) -> Awaitable[object]: ...


class Servers:
    """`prepare` before this process tries to lead, `keep` once it does, and `changed` for each load that changed."""

    def __init__(self, settings: ControllerSettings, api: Api, gauges: Gauges) -> None:
        self._settings, self._api, self._gauges = settings, api, gauges
        self._label = LeaderLabel(api, namespace=settings.own_namespace, pod=settings.identity)
        self._scaler: Any = None

    @property
    def wanted(self) -> bool:
        """Whether there is any."""
        return self._settings.external_metrics_dir is not None or self._settings.keda_address is not None

    async def prepare(self) -> None:
        if self.wanted:
            await self._label.clear()

    def changed(self, key: Key) -> None:
        """The load of an LLMDeployment may have changed."""
        if self._scaler is not None:
            self._scaler.changed(key[1], key[2])

    async def keep(self) -> None:
        """Serve until cancelled. Raises OSError where a port is taken."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._label.set())
            if self._settings.external_metrics_dir is not None:
                server = MetricsServer(
                    self._gauges,
                    self._api,
                    directory=self._settings.external_metrics_dir,
                    port=self._settings.external_metrics_port,
                )
                group.create_task(server.keep())
            if self._settings.keda_address is not None:
                group.create_task(self._serve_keda())

    async def _serve_keda(self) -> None:
        from tokenfleet.controller.actuators import keda  # Only here: gRPC takes 20 MB.

        self._scaler = keda.ExternalScaler(self._gauges)
        server = await keda.serve(self._scaler, address=f"[::]:{self._settings.keda_port}")
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(STOP_SECONDS)
