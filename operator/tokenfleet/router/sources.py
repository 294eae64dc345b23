"""Where models and replicas come from: the Kubernetes API, or a static list. Both fill the catalog.

From the API the router reads one LLMDeployment and that one's engine pods, in its own namespace; it needs get, list and
watch on both, and writes nothing. kubernetes.aio is imported only where there is an API to talk to.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.errors import InvalidSettings
from tokenfleet.router.catalog import Catalog, Model
from tokenfleet.router.cluster_objects import Deployment, Pod, created, served_name, sighting
from tokenfleet.router.metrics import Metrics
from tokenfleet.router.replicas import Replicas, Sighting, State
from tokenfleet.router.watch import Connect, Mirror, Patience, Source
from tokenfleet.settings import RouterSettings

_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def fill_static(catalog: Catalog, settings: RouterSettings) -> None:
    """Serve what the environment lists, for ever."""
    replicas = Replicas()
    replicas.observe(
        Sighting(f"{host}:{port}", f"{host}:{port}", host, port, State.ROUTABLE) for host, port in settings.static_replicas
    )
    catalog.replace([Model(settings.static_model, 0, replicas)])
    catalog.synced = True


async def connect() -> Any:
    """A kubernetes.aio ApiClient: in a pod by its service account, elsewhere by KUBECONFIG."""
    from kubernetes.aio import client
    from kubernetes.aio import config as untyped

    config: Any = untyped
    configuration = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and _TOKEN.exists():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise InvalidSettings(
            f"No way to the Kubernetes API: {error} Run in a pod with a service account, set KUBECONFIG, or set "
            "TOKENFLEET_ROUTER_STATIC_REPLICAS to do without Kubernetes."
        ) from error
    return client.ApiClient(configuration)


class ClusterSource:
    """The catalog's filling from the API. The model and its replicas are read apart, so either may come first."""

    def __init__(
        self,
        catalog: Catalog,
        settings: RouterSettings,
        metrics: Metrics,
        *,
        connect: Connect = connect,
        patience: Patience | None = None,
    ) -> None:
        self._catalog = catalog
        self._replicas = Replicas(turn=random.getrandbits(16))
        self._seen: set[str] = set()
        self._connect = connect

        def failed(resource: str) -> None:
            metrics.watch_failures[resource] += 1

        name, namespace = settings.deployment, settings.namespace
        group = f"/apis/{contract.GROUP}/{contract.VERSION}"
        self._deployments = Mirror(
            Source(
                resource=contract.PLURAL,
                path=f"{group}/namespaces/{namespace}/{contract.PLURAL}",
                kind=Deployment,
                selector=(("fieldSelector", f"metadata.name={name}"),),
            ),
            connect,
            self._deployments_changed,
            failed=failed,
            patience=patience,
        )
        labels = f"{contract.LABEL_DEPLOYMENT}={name},{contract.LABEL_ROLE}={contract.ROLE_ENGINE}"
        self._pods = Mirror(
            Source(
                resource="pods",
                path=f"/api/v1/namespaces/{namespace}/pods",
                kind=Pod,
                selector=(("labelSelector", labels),),
            ),
            connect,
            self._pods_changed,
            failed=failed,
            patience=patience,
        )

    async def follow(self) -> None:
        """For ever. InvalidSettings where there is no way to the API; later failures are waited out."""
        client = await self._connect()
        await client.close()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deployments.follow())
            tasks.create_task(self._pods.follow())

    def _deployments_changed(self, deployments: list[Deployment]) -> None:
        self._catalog.replace([Model(served_name(one), created(one), self._replicas) for one in deployments])
        self._note("deployments")

    def _pods_changed(self, pods: list[Pod]) -> None:
        self._replicas.observe(sighting(pod) for pod in pods)
        self._note("pods")

    def _note(self, seen: str) -> None:
        self._seen.add(seen)
        self._catalog.synced = len(self._seen) == 2
