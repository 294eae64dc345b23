"""How many more replicas a cluster can start now, and what the others would wait for. Pure.

A replica is one pod, so all of its devices are on one node. Pods that wait already come first, as they do in the scheduler's
queue; each goes where the least is left over, which leaves whole nodes to those that need them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenfleet.planning.placement import Demand, Node, belongs, refusal

_OF_REQUESTS: Final = "requests."
_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A ResourceQuota of the namespace that counts our pods."""

    name: str
    left: Mapping[str, float]
    """hard − used, by the quota's own words: requests.nvidia.com/gpu, pods, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node that is of the kind that is asked for."""

    node: str
    devices: float
    free: float
    """Devices, now."""
    takes: int
    """Replicas that it has room for, after the pods that wait already."""
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Of a cluster, for one kind of pod."""

    resource: str | None
    each: float
    """Devices of one replica."""
    wanted: int
    """Replicas that are to be started."""
    startable: int
    """Of them, those that can be, now."""
    places: tuple[Place, ...]
    pending: int
    """Pods of others that wait for the same resource."""
    pending_devices: float
    waits_for: tuple[str, ...]
    """What the rest waits for, in sentences; empty: there is no rest."""

    @property
    def free(self) -> float:
        """Devices on nodes that would take such a pod."""
        return sum(place.free for place in self.places if place.refusal is None)


def capacity(
    demand: Demand,
    *,
    resource: str | None,
    wanted: int,
    nodes: Sequence[Node],
    pending: Sequence[Demand] = (),
    quotas: Sequence[Quota] = (),
) -> Capacity:
    """resource: the device's; None: such a pod needs none, and CPU and memory alone decide. pending: by age."""
    ahead = [each for each in pending if resource is None or each.requests.get(resource, 0) > 0]
    left = {node.name: node for node in nodes}
    for each in ahead:
        _put(each, left)
    places = tuple(_place(node, left[node.name], demand, resource) for node in nodes if _concerns(node, demand, resource))
    room = sum(place.takes for place in places)
    allowed = min((_allowed(quota, demand) for quota in quotas), default=wanted)
    startable = min(wanted, room, allowed)
    return Capacity(
        resource=resource,
        each=demand.requests.get(resource, 0.0) if resource else 0.0,
        wanted=wanted,
        startable=startable,
        places=places,
        pending=len(ahead) if resource else 0,
        pending_devices=sum(each.requests.get(resource, 0.0) for each in ahead) if resource else 0.0,
        waits_for=_reasons(demand, resource, wanted, room, places, quotas),
    )


def _concerns(node: Node, demand: Demand, resource: str | None) -> bool:
    return belongs(node, demand) and (resource is None or node.allocatable.get(resource, 0) > 0)


def _place(node: Node, left: Node, demand: Demand, resource: str | None) -> Place:
    refused = refusal(node, demand)
    return Place(
        node=node.name,
        devices=node.allocatable.get(resource, 0.0) if resource else 0.0,
        free=node.free(resource) if resource else 0.0,
        takes=0 if refused else _takes(left, demand),
        refusal=refused,
    )


def _takes(node: Node, demand: Demand) -> int:
    """Such pods that find room on it: every pod is one of the node's `pods`."""
    asked = {name: amount for name, amount in {**demand.requests, "pods": 1.0}.items() if amount > 0}
    known = {name for name in asked if name in node.allocatable or name not in ("pods", "cpu", "memory", "ephemeral-storage")}
    return min((math.floor(node.free(name) / asked[name] + _EPSILON) for name in known), default=0)


def _put(demand: Demand, left: dict[str, Node]) -> None:
    """A pod on the node where the least devices stay free, if any takes it."""
    fit = [node for node in left.values() if refusal(node, demand) is None and _takes(node, demand) > 0]
    if not fit:
        return
    node = min(fit, key=lambda one: sum(one.free(name) for name in demand.requests if "/" in name))
    added = {**demand.requests, "pods": 1.0}
    used = {name: node.used.get(name, 0.0) + added.get(name, 0.0) for name in {*node.used, *added}}
    left[node.name] = replace(node, used=used)


def _allowed(quota: Quota, demand: Demand) -> int:
    """Replicas that it lets the namespace add."""
    asked = _counted(demand)
    bounds = [math.floor(max(0.0, left) / asked[name] + _EPSILON) for name, left in quota.left.items() if asked.get(name)]
    return min(bounds, default=2**31)


def _counted(demand: Demand) -> dict[str, float]:
    """What one pod adds, by the words that quotas have for it."""
    counted = {f"{_OF_REQUESTS}{name}": amount for name, amount in demand.requests.items()}
    counted |= {name: demand.requests[name] for name in ("cpu", "memory", "ephemeral-storage") if name in demand.requests}
    return counted | {"pods": 1.0, "count/pods": 1.0}


def _reasons(
    demand: Demand, resource: str | None, wanted: int, room: int, places: Sequence[Place], quotas: Sequence[Quota]
) -> tuple[str, ...]:
    said = [_of_quota(quota, demand, wanted) for quota in quotas if _allowed(quota, demand) < wanted]
    if room < wanted:
        said.append(_of_nodes(demand, resource, places))
    return tuple(said)


def _of_quota(quota: Quota, demand: Demand, wanted: int) -> str:
    asked = _counted(demand)
    name = min((one for one in quota.left if asked.get(one)), key=lambda one: quota.left[one] / asked[one])
    return (
        f"The ResourceQuota {quota.name} leaves {_number(max(0.0, quota.left[name]))} of {name}, and {wanted} replicas need "
        f"{_number(asked[name] * wanted)}: raise it, or free some of it."
    )


def _of_nodes(demand: Demand, resource: str | None, places: Sequence[Place]) -> str:
    if resource is None:
        return "No node has more CPU and memory free for such a pod: free some, or add a node."
    each = demand.requests.get(resource, 0.0)
    if not places:
        return f"No node of this cluster is of the class, with {resource}: add one, or choose another accelerator."
    refused = [f"{place.node} ({place.refusal})" for place in places if place.refusal]
    largest = max((place.devices for place in places), default=0.0)
    if largest < each:
        return (
            f"A replica needs {_number(each)} {resource} on one node, and the largest has {_number(largest)}: "
            "lower parallelism, or add a larger node."
        )
    beside = f" Not counted: {', '.join(refused)}." if refused else ""
    return f"No other node of the class has {_number(each)} {resource} free at once: free some, or add a node.{beside}"


def _number(amount: float) -> str:
    if amount >= 1 << 30:
        return f"{amount / (1 << 30):.1f} GiB"
    return f"{amount:g}"
