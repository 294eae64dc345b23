"""What a cluster has free for engines: its nodes, the pods on them and the namespace's quotas, read and put into numbers.

The judgement is planning.capacity's. What may not be read is told, and done without: whoever plans a deployment may look at a
namespace, and seldom at the nodes. Bodies are read as JSON: a client's types take seconds for the pods of a large cluster.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Thing
from tokenfleet.cli.errors import CliError, Unreachable
from tokenfleet.controller.kinds import NODE, POD
from tokenfleet.controller.resources.quantities import amount
from tokenfleet.planning.capacity import Quota
from tokenfleet.planning.placement import Demand, Node

Json = dict[str, Any]

_PAGE: Final = "500"
_NOT_ENDED: Final = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What was read."""

    nodes: tuple[Node, ...] | None = None
    """None: they may not be read."""
    pending: tuple[Demand, ...] = ()
    """Pods of others that no node has taken yet, the oldest first."""
    quotas: tuple[Quota, ...] = ()
    untold: tuple[str, ...] = field(default=())
    """What could not be read, in sentences."""


def read_supply(cluster: Cluster, *, deployment: str) -> Supply:
    """deployment: the LLMDeployment that is planned; pods of its own that wait are not in its way.

    Raises Unreachable where nobody answers.
    """
    untold: list[str] = []

    def read(path: str, thing: Thing, **query: str) -> list[Json] | None:
        try:
            return list(_items(cluster, path, thing, query))
        except Unreachable:
            raise
        except CliError as error:
            untold.append(str(error))
            return None

    nodes = read(NODE.path(None), Thing("the nodes of the cluster", rights="list nodes"))
    thing = Thing("the pods of all namespaces", rights="list pods in all namespaces")
    pods = read(POD.path(None), thing, fieldSelector=_NOT_ENDED) if nodes is not None else None
    thing = Thing(f"the ResourceQuotas of the namespace {cluster.namespace}", rights="list resourcequotas")
    quotas = read(f"/api/v1/namespaces/{cluster.namespace}/resourcequotas", thing)
    return Supply(
        nodes=None if nodes is None or pods is None else tuple(nodes_of(nodes, pods)),
        pending=tuple(pending_of(pods or [], own=(cluster.namespace, deployment))),
        quotas=tuple(quotas_of(quotas or [])),
        untold=tuple(untold),
    )


def nodes_of(nodes: Iterable[Json], pods: Iterable[Json]) -> Iterator[Node]:
    """Nodes as the API has them, with what the pods on them have asked for."""
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pod in pods:
        if (name := pod["spec"].get("nodeName")) and not _has_ended(pod):
            for resource, value in {**demand_of(pod["spec"]).requests, "pods": 1.0}.items():
                used[name][resource] += value
    for node in nodes:
        spec, name = node.get("spec") or {}, node["metadata"]["name"]
        conditions = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or ()}
        yield Node(
            name=name,
            labels=node["metadata"].get("labels") or {},
            taints=tuple(spec.get("taints") or ()),
            cordoned=bool(spec.get("unschedulable")),
            ready=conditions.get("Ready", "True") == "True",
            allocatable=_amounts((node.get("status") or {}).get("allocatable") or {}),
            used=dict(used[name]),
        )


def pending_of(pods: Iterable[Json], *, own: tuple[str, str]) -> Iterator[Demand]:
    """own: namespace and name of an LLMDeployment whose pods are left out."""
    waiting = [pod for pod in pods if not pod["spec"].get("nodeName") and not _has_ended(pod) and not _is_of(pod, *own)]
    for pod in sorted(waiting, key=lambda one: str(one["metadata"].get("creationTimestamp"))):
        yield demand_of(pod["spec"])


def quotas_of(quotas: Iterable[Json]) -> Iterator[Quota]:
    """Those that count pods that run on and ask for something, whatever their priority."""
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopeSelector") or {"Terminating", "BestEffort"} & set(spec.get("scopes") or ()):
            continue
        hard, used = _amounts(status.get("hard") or spec.get("hard") or {}), _amounts(status.get("used") or {})
        yield Quota(name=quota["metadata"]["name"], left={key: value - used.get(key, 0.0) for key, value in hard.items()})


def demand_of(spec: Mapping[str, Any]) -> Demand:
    """What a pod of this spec asks for: what its containers do together, or a single one of those that run before them."""
    requests: dict[str, float] = {}
    for container in spec.get("containers") or ():
        for name, value in _requests(container).items():
            requests[name] = requests.get(name, 0.0) + value
    for container in spec.get("initContainers") or ():
        for name, value in _requests(container).items():
            requests[name] = max(requests.get(name, 0.0), value)
    for name, value in _amounts(spec.get("overhead") or {}).items():
        requests[name] = requests.get(name, 0.0) + value
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return Demand(
        requests=requests,
        node_selector=spec.get("nodeSelector") or {},
        terms=None if required is None else tuple(required.get("nodeSelectorTerms") or ()),
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def _requests(container: Mapping[str, Any]) -> dict[str, float]:
    """What is limited and not requested is requested up to its limit, by the API server."""
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(quantities: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(amount(value)) for name, value in quantities.items()}


def _has_ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _is_of(pod: Json, namespace: str, deployment: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return pod["metadata"].get("namespace") == namespace and labels.get(contract.LABEL_DEPLOYMENT) == deployment


def _items(cluster: Cluster, path: str, thing: Thing, query: Mapping[str, str]) -> Iterator[Json]:
    """Of a list, page by page."""
    token = ""
    while True:
        page = cluster.read(path, thing, limit=_PAGE, **({"continue": token} if token else {}), **query)
        yield from page.get("items") or ()
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return
