"""LLMDeployments in a cluster, and the Deployments of their engines: read, and changed by one field at a time."""

from typing import Any, Final, Protocol

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing, connect
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.options import Place

Json = dict[str, Any]

_ROLES: Final = (contract.ROLE_ENGINE, contract.ROLE_PREFILL)
_MERGE: Final = "application/merge-patch+json"


class Deployments(Protocol):
    """LLMDeployments of one namespace."""

    @property
    def namespace(self) -> str: ...

    def get(self, name: str) -> Json:
        """Raises CliError, which lists those that there are, where there is none of that name."""

    def patch(self, name: str, change: Json) -> Json:
        """Merge `change` into it."""

    def engines(self, name: str) -> list[Json]:
        """The Kubernetes Deployments of its engines, by name."""


class ClusterDeployments:
    """By way of the Kubernetes API."""

    def __init__(self, cluster: Cluster, objects: Any, apps: Any) -> None:
        """objects: kubernetes.client.CustomObjectsApi; apps: AppsV1Api."""
        self._cluster, self._objects, self._apps = cluster, objects, apps
        self._kind = (contract.GROUP, contract.VERSION, cluster.namespace, contract.PLURAL)

    @property
    def namespace(self) -> str:
        return self._cluster.namespace

    def get(self, name: str) -> Json:
        try:
            found = self._cluster.call("get", self._thing(name), self._objects.get_namespaced_custom_object, *self._kind, name)
        except Missing:
            raise CliError(self._what_there_is(name)) from None
        return dict(found)

    def patch(self, name: str, change: Json) -> Json:
        call = self._objects.patch_namespaced_custom_object
        try:
            return dict(self._cluster.call("patch", self._thing(name), call, *self._kind, name, change, _content_type=_MERGE))
        except Missing:
            raise CliError(self._what_there_is(name)) from None

    def engines(self, name: str) -> list[Json]:
        thing = Thing(f"the Deployments of {self.namespace}/{name}", rights="list deployments.apps")
        chosen = f"{contract.LABEL_DEPLOYMENT}={name},{contract.LABEL_ROLE} in ({','.join(_ROLES)})"
        call = self._apps.list_namespaced_deployment
        found = self._cluster.call("list", thing, call, self.namespace, label_selector=chosen)
        listed: list[Json] = self._cluster.api_client.sanitize_for_serialization(found)["items"]
        return sorted(listed, key=lambda one: str(one["metadata"]["name"]))

    def _thing(self, name: str) -> Thing:
        rights = f"get, list and patch {contract.PLURAL}.{contract.GROUP}"
        return Thing(f"the {contract.KIND} {self.namespace}/{name}", rights=rights)

    def _what_there_is(self, name: str) -> str:
        """Of one that is not there."""
        thing = Thing(f"{contract.KIND}s in the namespace {self.namespace}", rights=f"list {contract.PLURAL}.{contract.GROUP}")
        missing = f"There is no {contract.KIND} {name} in the namespace {self.namespace}"
        try:
            found = self._cluster.call("list", thing, self._objects.list_namespaced_custom_object, *self._kind)
        except Missing:
            return f"This cluster knows no {contract.KIND}s: install Tokenfleet, or choose another context with --context."
        except CliError:  # To say less is better than to speak of something else.
            return f"{missing}: name another, or another namespace with --namespace."
        names = ", ".join(sorted(item["metadata"]["name"] for item in found["items"]))
        return (
            f"{missing}. There are: {names}."
            if names
            else f"{missing}, nor any other: name another namespace with --namespace."
        )


def open_deployments(place: Place) -> ClusterDeployments:
    return deployments_of(connect(place))


def deployments_of(cluster: Cluster) -> ClusterDeployments:
    from kubernetes import client

    return ClusterDeployments(cluster, client.CustomObjectsApi(cluster.api_client), client.AppsV1Api(cluster.api_client))
