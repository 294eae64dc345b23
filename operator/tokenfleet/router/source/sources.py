"""Where models and replicas come from: the Kubernetes API, or a static list. Both fill the catalog.

From the API the router reads, in its own namespace, one LLMDeployment and that one's engine pods, or, where it is shared, its
LLMRouter, all LLMDeployments and their pods; it needs get, list and watch on these, and writes nothing. kubernetes.aio is
imported only where there is an API to talk to.
"""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tokenfleet import contract
from tokenfleet.errors import InvalidSettings
from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.models import Pool
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.cluster_objects import Deployment, Pod, SharedRouter
from tokenfleet.router.source.inventory import Inventory
from tokenfleet.router.source.watch import Connect, Mirror, Object, Patience, Source
from tokenfleet.router.terms import Terms
from tokenfleet.settings import RouterSettings

_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def fill_static(shared: Shared, settings: RouterSettings) -> None:
    """Serve what the environment lists, for ever."""
    try:
        terms = msgspec.json.decode(settings.static_spec, type=Terms)
    except msgspec.DecodeError as error:
        raise InvalidSettings(f"TOKENFLEET_ROUTER_STATIC_SPEC is not a spec.router in JSON: {error}.") from error
    replicas = Replicas(turn=random.getrandbits(16), clock=shared.loop.time)
    replicas.observe(
        Sighting(f"{host}:{port}", f"{host}:{port}", host, port, State.ROUTABLE) for host, port in settings.static_replicas
    )
    model = shared.catalog.model(settings.static_model)
    model.update(terms, [Pool(settings.static_model, replicas, served_name=settings.static_model)], created=0)
    shared.catalog.replace([model])
    shared.adopt(terms)
    shared.catalog.synced = True


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
    """The catalog's filling from the API. Each kind is read apart, in any order."""

    def __init__(
        self,
        shared: Shared,
        settings: RouterSettings,
        *,
        connect: Connect = connect,
        patience: Patience | None = None,
    ) -> None:
        self._shared = shared
        self._connect = connect
        self._patience = patience
        self._namespace = settings.namespace
        self._missing: set[str] = set()
        """Kinds that were not read yet."""
        inventory = Inventory(shared, settings.deployment, is_shared=settings.shared)
        named = ("fieldSelector", f"metadata.name={settings.deployment}")
        engines = f"{contract.LABEL_ROLE} in ({contract.ROLE_ENGINE},{contract.ROLE_PREFILL})"
        if settings.shared:
            self._mirrors = [
                self._mirror(contract.ROUTER_PLURAL, SharedRouter, inventory.routers, (named,)),
                self._mirror(contract.PLURAL, Deployment, inventory.deployments, ()),
                self._mirror("pods", Pod, inventory.pods, (("labelSelector", engines),)),
            ]
        else:
            engines = f"{contract.LABEL_DEPLOYMENT}={settings.deployment},{engines}"
            self._mirrors = [
                self._mirror(contract.PLURAL, Deployment, inventory.deployments, (named,)),
                self._mirror("pods", Pod, inventory.pods, (("labelSelector", engines),)),
            ]

    async def follow(self) -> None:
        """For ever. InvalidSettings where there is no way to the API; later failures are waited out."""
        client = await self._connect()
        await client.close()
        async with asyncio.TaskGroup() as tasks:
            for mirror in self._mirrors:
                tasks.create_task(mirror.follow())

    def _mirror(
        self, resource: str, kind: type[Object], changed: Callable[[list[Object]], None], selector: tuple[tuple[str, str], ...]
    ) -> Mirror[Any]:
        group = "/api/v1" if kind is Pod else f"/apis/{contract.GROUP}/{contract.VERSION}"
        self._missing.add(resource)

        def report(found: list[Object]) -> None:
            changed(found)
            self._missing.discard(resource)
            self._shared.catalog.synced = not self._missing

        def failed(name: str) -> None:
            self._shared.metrics.watch_failures[name] += 1

        path = f"{group}/namespaces/{self._namespace}/{resource}"
        source = Source(resource=resource, path=path, kind=kind, selector=selector)
        return Mirror(source, self._connect, report, failed=failed, patience=self._patience)
