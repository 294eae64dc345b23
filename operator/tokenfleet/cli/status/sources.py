"""What `tokenfleet status` reads of a cluster: LLMDeployments as they change; for a page, pods and routers too."""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.cli.cluster import routers as of_routers
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing
from tokenfleet.cli.cluster.deployments import Json, deployments_of
from tokenfleet.cli.cluster.watching import View, views
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.status.page import Page, loads_of, page_of

_ROOT: Final = f"/apis/{contract.GROUP}/{contract.VERSION}"


class Source(Protocol):
    """A cluster, as status looks at it."""

    namespace: str

    def fleet(self, *, everywhere: bool) -> list[Json]: ...

    def page(self, name: str) -> Page: ...

    def watch(self, name: str | None, *, everywhere: bool) -> AsyncIterator[View]:
        """Of one LLMDeployment, or of all."""


class ClusterSource:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.namespace = cluster, cluster.namespace

    def fleet(self, *, everywhere: bool) -> list[Json]:
        path, thing = self._listed(everywhere)
        try:
            found = self._cluster.read(path, thing)["items"]
        except Missing:
            raise CliError(
                f"This cluster knows no {contract.KIND}s: install Tokenfleet, or choose another context with --context."
            ) from None
        return sorted(found, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))

    def page(self, name: str) -> Page:
        owner = deployments_of(self._cluster).get(name)
        return page_of(owner, self._pods(name), self._loads(owner))

    async def watch(self, name: str | None, *, everywhere: bool) -> AsyncIterator[View]:
        path, thing = self._listed(everywhere)
        selection = {"fieldSelector": f"metadata.name={name}"} if name is not None else {}
        async for view in views(self._cluster, path, thing, selection):
            yield view

    def _listed(self, everywhere: bool) -> tuple[str, Thing]:
        where = "of all namespaces" if everywhere else f"in the namespace {self.namespace}"
        thing = Thing(f"the {contract.KIND}s {where}", rights=f"list and watch {contract.PLURAL}.{contract.GROUP}")
        scope = "" if everywhere else f"/namespaces/{self.namespace}"
        return f"{_ROOT}{scope}/{contract.PLURAL}", thing

    def _pods(self, name: str) -> list[Json]:
        thing = Thing(f"the pods of {self.namespace}/{name}", rights="list pods")
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return list(self._cluster.read(path, thing, labelSelector=f"{contract.LABEL_DEPLOYMENT}={name}")["items"])

    def _loads(self, owner: Json) -> dict[str, int] | None:
        """By the routers' word; a page without it is better than none."""
        try:
            routers = of_routers.routers_of(self._cluster, owner)
            pods = of_routers.ready_pods(self._cluster, routers)
            reports = [of_routers.read_replicas(self._cluster, namespace=routers.namespace, pod=pod) for pod in pods]
        except CliError:
            return None
        return loads_of(reports, owner["metadata"]["name"]) if reports else None
