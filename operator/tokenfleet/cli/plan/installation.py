"""The controller that runs in a cluster, as far as it decides what children look like: its settings, read from its Deployment.

Without a cluster, or without the right to look, the settings of a fresh installation stand in, and that is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Thing
from tokenfleet.cli.errors import CliError
from tokenfleet.errors import InvalidSettings
from tokenfleet.settings import ControllerSettings

Json = dict[str, Any]

SELECTOR: Final = "app.kubernetes.io/part-of=tokenfleet"
_OURS: Final = "TOKENFLEET_ENGINE_IMAGE"
"""A variable that the controller's container has, and no other."""
_PLACEHOLDER: Final = "tokenfleet"
"""Of what only a running pod has, its name and namespace: no child depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Of the controller."""

    settings: ControllerSettings
    name: str
    """In words, for people."""
    accelerators: str | None = None
    """The document of classes that the cluster adds, where there is one and it may be read."""
    untold: str | None = None
    """Why this is a fresh installation's and not the cluster's, in a sentence."""


def fresh(untold: str | None = None) -> Installation:
    """As the chart installs it, with the images of this version."""
    try:
        tag = version("tokenfleet")
    except PackageNotFoundError:  # run from a checkout
        tag = "latest"
    environment = {
        "TOKENFLEET_OPERATOR_IMAGE": f"tokenfleet/operator:{tag}",
        "TOKENFLEET_ENGINE_IMAGE": f"tokenfleet/engine:{tag}",
        "TOKENFLEET_ENGINE_CPU_IMAGE": f"tokenfleet/engine-cpu:{tag}",
        contract.ENV_NAMESPACE: _PLACEHOLDER,
        "TOKENFLEET_IDENTITY": _PLACEHOLDER,
    }
    return Installation(settings=ControllerSettings.from_environment(environment), name="a fresh installation", untold=untold)


def installation_of(cluster: Cluster) -> Installation:
    """The controller that looks after the cluster's namespace; a fresh one where none is found or may be read."""
    thing = Thing("the controller's Deployment", rights="list deployments.apps in all namespaces")
    try:
        found = cluster.read("/apis/apps/v1/deployments", thing, labelSelector=SELECTOR)["items"]
    except CliError as error:
        return fresh(f"{error} Children are as a fresh installation would make them.")
    for deployment in found:
        container = _controller(deployment)
        if container is None:
            continue
        installation = _read(cluster, deployment, container)
        watched = installation.settings.watch_namespaces
        if not watched or cluster.namespace in watched:
            return installation
    return fresh(
        f"No controller of Tokenfleet looks after the namespace {cluster.namespace}: install it, or nothing that is applied "
        "there will run. Children are as a fresh installation would make them."
    )


def _controller(deployment: Json) -> Json | None:
    containers: list[Json] = deployment["spec"]["template"]["spec"]["containers"]
    return next((one for one in containers if any(each["name"] == _OURS for each in one.get("env") or ())), None)


def _read(cluster: Cluster, deployment: Json, container: Json) -> Installation:
    metadata, pod = deployment["metadata"], deployment["spec"]["template"]["spec"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    environment = environment_of(container, namespace=metadata["namespace"])
    try:
        settings = ControllerSettings.from_environment(environment)
    except InvalidSettings as error:
        return fresh(f"The controller {name} has settings that this version cannot read ({error})")
    return Installation(settings=settings, name=name, accelerators=_accelerators(cluster, settings, container, pod, metadata))


def environment_of(container: Json, *, namespace: str) -> dict[str, str]:
    """What its process reads; what only a running pod has is filled in."""
    known = {one["name"]: str(one.get("value") or "") for one in container.get("env") or () if "valueFrom" not in one}
    return {contract.ENV_NAMESPACE: namespace, "TOKENFLEET_IDENTITY": _PLACEHOLDER, **known}


def _accelerators(
    cluster: Cluster, settings: ControllerSettings, container: Json, pod: Json, metadata: Mapping[str, Any]
) -> str | None:
    """The text of the file that holds the added classes, out of the ConfigMap that it is mounted from."""
    if settings.accelerators_file is None:
        return None
    mounts = {one["name"]: one["mountPath"] for one in container.get("volumeMounts") or ()}
    folder = str(settings.accelerators_file.parent)
    for volume in pod.get("volumes") or ():
        if "configMap" not in volume or mounts.get(volume["name"]) != folder:
            continue
        name, namespace = volume["configMap"]["name"], metadata["namespace"]
        thing = Thing(f"the ConfigMap {namespace}/{name} of accelerators", rights=f"get configmaps in {namespace}")
        try:
            data = cluster.read(f"/api/v1/namespaces/{namespace}/configmaps/{name}", thing).get("data") or {}
        except CliError:  # Its classes are then unknown, which says more where one of them is named.
            return None
        return str(data[settings.accelerators_file.name]) if settings.accelerators_file.name in data else None
    return None
