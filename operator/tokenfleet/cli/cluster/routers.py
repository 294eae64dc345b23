"""The routers of an LLMDeployment, its own or an LLMRouter's: their pods, and what these tell on their admin ports."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing
from tokenfleet.cli.errors import CliError, Unreachable
from tokenfleet.controller.kinds import LLM_ROUTER, POD

Json = dict[str, Any]
_ADMIN_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Routers:
    """Of one LLMDeployment."""

    namespace: str
    owner: str
    """The name of the LLMDeployment, or of the LLMRouter."""
    shared: bool
    tls_secret: str | None
    """Where they speak TLS: the Secret of their certificate."""

    @property
    def selector(self) -> str:
        label = contract.LABEL_ROUTER if self.shared else contract.LABEL_DEPLOYMENT
        return f"{label}={self.owner},{contract.LABEL_ROLE}={contract.ROLE_ROUTER}"


def routers_of(cluster: Cluster, deployment: Json) -> Routers:
    """deployment: an LLMDeployment of the cluster's namespace. Raises CliError where its LLMRouter is not there."""
    spec, namespace = deployment.get("spec") or {}, str(deployment["metadata"].get("namespace") or cluster.namespace)
    shared = (spec.get("routerRef") or {}).get("name")
    router = (_shared(cluster, namespace, shared).get("spec") or {}) if shared else spec.get("router") or {}
    return Routers(
        namespace=namespace,
        owner=str(shared or deployment["metadata"]["name"]),
        shared=bool(shared),
        tls_secret=(router.get("tls") or {}).get("secretName"),
    )


def ready_pods(cluster: Cluster, routers: Routers) -> list[str]:
    """Names of the router pods that take requests, the oldest first."""
    thing = Thing(f"the pods of {routers.namespace}/{routers.owner}", rights="list pods")
    pods = cluster.read(POD.path(routers.namespace), thing, labelSelector=routers.selector)["items"]
    ready = [pod["metadata"] for pod in pods if is_ready(pod)]
    return [one["name"] for one in sorted(ready, key=lambda one: str(one["creationTimestamp"]))]


def is_ready(pod: Json) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@contextlib.contextmanager
def forwarded_router(cluster: Cluster, routers: Routers, *, port: int) -> Iterator[str]:
    """http://127.0.0.1:PORT of a port of a ready router; of another one when that goes away. Raises CliError: none is ready."""
    from tokenfleet.cli.cluster.forwarding import forwarded

    pods = ready_pods(cluster, routers)
    if not pods:
        whose = f"the LLMRouter {routers.owner}" if routers.shared else f"the LLMDeployment {routers.owner}"
        raise CliError(
            f"No router of {whose} in the namespace {routers.namespace} is ready: "
            f"`tokenfleet diagnose {'NAME' if routers.shared else routers.owner} -n {routers.namespace}` says why."
        )

    def another(lost: frozenset[str]) -> str | None:
        try:
            return next((pod for pod in ready_pods(cluster, routers) if pod not in lost), None)
        except CliError:
            return None

    with forwarded(cluster, namespace=routers.namespace, pod=pods[0], port=port, choose=another) as url:
        yield url


def read_admin(cluster: Cluster, *, namespace: str, pod: str, path: str) -> str:
    """What a router pod answers on its admin port: /metrics, or /debug/replicas.json. Raises CliError."""
    from tokenfleet.cli.cluster.forwarding import forwarded  # with aiohttp, which is long to load

    with forwarded(cluster, namespace=namespace, pod=pod, port=contract.ROUTER_ADMIN_PORT) as url:
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url + path, timeout=_ADMIN_SECONDS) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError, UnicodeDecodeError) as error:
            raise Unreachable(f"The router {namespace}/{pod} does not answer at {path} ({error}).") from error


def read_replicas(cluster: Cluster, *, namespace: str, pod: str) -> Json:
    """Of a router pod: the replicas that it knows, and their state."""
    text = read_admin(cluster, namespace=namespace, pod=pod, path="/debug/replicas.json")
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise CliError(f"The router {namespace}/{pod} tells its replicas in words that are no JSON: {error}.") from error


def _shared(cluster: Cluster, namespace: str, name: str) -> Json:
    thing = Thing(f"the {contract.ROUTER_KIND} {namespace}/{name}", rights=f"get {contract.ROUTER_PLURAL}.{contract.GROUP}")
    try:
        return cluster.read(LLM_ROUTER.path(namespace, name), thing)
    except Missing:
        raise CliError(
            f"There is no {contract.ROUTER_KIND} {name} in the namespace {namespace}, which spec.routerRef names: "
            "create it, or name another."
        ) from None
