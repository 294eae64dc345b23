"""One snapshot of a cluster: every read at the same time, and each that is refused kept as the sentence that says which right
is missing, so that what may be seen is still told."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing
from tokenfleet.cli.cluster.deployments import deployments_of
from tokenfleet.cli.diagnose.request import ask
from tokenfleet.cli.diagnose.snapshot import Json, Look, Snapshot
from tokenfleet.cli.errors import CliError, Unreachable
from tokenfleet.controller import pods
from tokenfleet.controller.kinds import CHILDREN, EVENT, LEASE, LLM_ROUTER, NODE, POD, Kind

_KINDS: Final = {kind.name: kind for kind in CHILDREN}
_SLICE: Final = Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
_CLAIM: Final = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
_SECRET: Final = Kind("Secret", "", "v1", "secrets")
_CONTROLLER: Final = "app.kubernetes.io/part-of=tokenfleet,app.kubernetes.io/component=controller"
_DOCUMENTED: Final = "tokenfleet-system"
"""Where docs/install.md puts the controller."""
_READERS: Final = 8
_LAST_LINES: Final = 6
_WORDS_OF: Final = 2
"""Pods whose last words are read."""


def take(cluster: Cluster, name: str, *, now: datetime) -> Snapshot:
    """Raises CliError where there is no such LLMDeployment, or it may not be read, or nobody answers."""
    owner = _owner(cluster, name)
    if owner is None:
        return Snapshot(namespace=cluster.namespace, name=name, now=now, owner=None, **_controller(cluster))
    with ThreadPoolExecutor(_READERS) as readers:
        looks = {field: readers.submit(look) for field, look in _looks(cluster, owner).items()}
        controller = readers.submit(_controller, cluster)
        secrets = {secret: readers.submit(_is_there, cluster, secret) for secret in _secrets(owner)}
        reply = readers.submit(ask, cluster, owner)
        seen: dict[str, Any] = {field: look.result() for field, look in looks.items()}
        return Snapshot(
            namespace=cluster.namespace,
            name=name,
            now=now,
            owner=owner,
            secrets={secret: future.result() for secret, future in secrets.items()},
            last_words=_last_words(cluster, seen["pods"]),
            reply=reply.result(),
            **controller.result(),
            **seen,
        )


def _owner(cluster: Cluster, name: str) -> Json | None:
    """None: the cluster knows no LLMDeployments at all."""
    try:
        cluster.read(f"/apis/{contract.GROUP}/{contract.VERSION}", Thing("the API group of Tokenfleet", rights="look at APIs"))
    except Missing:
        return None
    return deployments_of(cluster).get(name)


def _looks(cluster: Cluster, owner: Json) -> Mapping[str, Callable[[], Look]]:
    """By field of the Snapshot."""
    name = owner["metadata"]["name"]
    ours = {"labelSelector": f"{contract.LABEL_DEPLOYMENT}={name}"}
    router = ((owner.get("spec") or {}).get("routerRef") or {}).get("name")

    def listed(kind: Kind, **query: str) -> Callable[[], Look]:
        return lambda: _list(cluster, kind, cluster.namespace, **query)

    def everywhere(kind: Kind, **query: str) -> Callable[[], Look]:
        return lambda: _list(cluster, kind, None, **query)

    def nothing() -> Look:
        return Look()

    return {
        "deployments": listed(_KINDS["Deployment"], **ours),
        "services": listed(_KINDS["Service"], fieldSelector=f"metadata.name={router or name}"),
        "slices": listed(_SLICE, labelSelector=f"kubernetes.io/service-name={router or name}"),
        "pods": listed(POD, **ours),
        "router": listed(LLM_ROUTER, fieldSelector=f"metadata.name={router}") if router else nothing,
        "router_pods": listed(POD, labelSelector=f"{contract.LABEL_ROUTER}={router}") if router else nothing,
        "nodes": everywhere(NODE),
        "all_pods": everywhere(POD, fieldSelector="status.phase!=Succeeded,status.phase!=Failed"),
        "claims": listed(_CLAIM),
        "events": listed(EVENT, fieldSelector="type=Warning"),
    }


def _controller(cluster: Cluster) -> dict[str, Any]:
    """Its Lease and its pods, in whichever namespace; in the one of the docs where only that may be looked at."""
    lease = _list(cluster, LEASE, None, fieldSelector=f"metadata.name={contract.LEADER_LEASE}")
    if lease.unseen:
        nearer = _list(cluster, LEASE, _DOCUMENTED, fieldSelector=f"metadata.name={contract.LEADER_LEASE}")
        lease = nearer if nearer.items else lease
    namespace = next((one["metadata"]["namespace"] for one in lease.items), None)
    return {"lease": lease, "controllers": _list(cluster, POD, namespace, labelSelector=_CONTROLLER)}


def _list(cluster: Cluster, kind: Kind, namespace: str | None, **query: str) -> Look:
    where = f"in the namespace {namespace}" if namespace is not None else "of all namespaces"
    group = f".{kind.group}" if kind.group else ""
    thing = Thing(f"the {kind.name}s {where}", rights=f"list {kind.plural}{group} {where}")
    try:
        return Look(tuple(cluster.read(kind.path(namespace), thing, **query)["items"]))
    except Unreachable:
        raise
    except CliError as error:
        return Look(unseen=str(error))


def _secrets(owner: Json) -> list[str]:
    """Those that the spec names, the routers' included."""
    spec: dict[str, Any] = owner.get("spec") or {}
    router = spec.get("router") or {}
    named = (
        ((spec.get("model") or {}).get("credentials") or {}).get("secretName"),
        (router.get("auth") or {}).get("keysSecret"),
        (router.get("tls") or {}).get("secretName"),
        (router.get("redis") or {}).get("urlSecret"),
    )
    return list(dict.fromkeys(str(name) for name in named if name))


def _is_there(cluster: Cluster, secret: str) -> bool | None:
    """Its metadata tells; what is in it is nobody's business here."""
    thing = Thing(f"the Secret {cluster.namespace}/{secret}", rights="get Secrets")
    try:
        cluster.read(_SECRET.path(cluster.namespace, secret), thing)
    except Missing:
        return False
    except CliError:
        return None
    return True


def _last_words(cluster: Cluster, seen: Look) -> dict[str, tuple[str, ...]]:
    """Of engines that ended."""
    ended = [pod["metadata"]["name"] for pod in pods.newest_first(seen.items) if _has_ended(pod)]
    return {pod: words for pod in ended[:_WORDS_OF] if (words := _lines(cluster, pod))}


def _has_ended(pod: Json) -> bool:
    status = pods.container(pod, contract.CONTAINER_ENGINE) or {}
    return not pods.is_ready(pod) and bool((status.get("restartCount") or 0) or (status.get("state") or {}).get("terminated"))


def _lines(cluster: Cluster, pod: str) -> tuple[str, ...]:
    from kubernetes import client

    thing = Thing(f"the log of {cluster.namespace}/{pod}", rights="get pods/log")
    call = client.CoreV1Api(cluster.api_client).read_namespaced_pod_log
    for previous in (True, False):
        asked: dict[str, Any] = {"container": contract.CONTAINER_ENGINE, "previous": previous, "tail_lines": _LAST_LINES}
        try:
            text = str(cluster.call("get", thing, call, pod, cluster.namespace, **asked))
        except CliError:
            continue
        if text.strip():
            return tuple(text.strip().splitlines())
    return ()
