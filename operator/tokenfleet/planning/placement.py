"""Whether a node would take a pod: node selector, required node affinity, taints and cordons, as the scheduler has it. Pure.

Only what a node says of itself is looked at, not what it has free (capacity.py), nor what other pods are there: affinity to
pods and volumes of one zone may yet refuse a node that is called fit here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = Mapping[str, Any]

_KEEPS_AWAY: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the scheduler looks at, amounts in units: cores, bytes, devices."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Json] = ()
    cordoned: bool = False
    ready: bool = True
    allocatable: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    """By the requests of the pods that are bound to it and have not ended."""

    def free(self, resource: str) -> float:
        return max(0.0, self.allocatable.get(resource, 0.0) - self.used.get(resource, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one pod asks for."""

    requests: Mapping[str, float]
    node_selector: Mapping[str, str] = field(default_factory=dict)
    terms: Sequence[Json] | None = None
    """nodeSelectorTerms of its required node affinity: one of them has to hold; None: it has no such affinity."""
    tolerations: Sequence[Json] = ()


def refusal(node: Node, demand: Demand) -> str | None:
    """Why the node would not take such a pod, however much it had free; None: it would.

    Labels come first: a node of another kind is no candidate, whatever else is wrong with it.
    """
    if not belongs(node, demand):
        return "its labels do not match"
    if node.cordoned:
        return "it is cordoned"
    for taint in node.taints:
        if taint.get("effect") in _KEEPS_AWAY and not any(_tolerates(one, taint) for one in demand.tolerations):
            return f"its taint {_written(taint)} is not tolerated"
    return None if node.ready else "it is not ready"


def belongs(node: Node, demand: Demand) -> bool:
    """Whether its labels are those that the pod asks for."""
    if any(node.labels.get(key) != value for key, value in demand.node_selector.items()):
        return False
    return demand.terms is None or any(_holds(term, node) for term in demand.terms)


def _holds(term: Json, node: Node) -> bool:
    """A term without any expression matches nothing."""
    labels = [(one, node.labels) for one in term.get("matchExpressions") or ()]
    fields = [(one, {"metadata.name": node.name}) for one in term.get("matchFields") or ()]
    return bool(labels or fields) and all(_matches(one, among) for one, among in (*labels, *fields))


def _matches(expression: Json, among: Mapping[str, str]) -> bool:
    value, values = among.get(str(expression["key"])), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compared(value, str(next(iter(values), "")), operator)
    return False


def _compared(value: str | None, bound: str, operator: str) -> bool:
    try:
        number, limit = int(value or ""), int(bound)
    except ValueError:
        return False
    return number > limit if operator == "Gt" else number < limit


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    key = toleration.get("key") or ""
    if key and key != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def _written(taint: Json) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"
