"""PodDisruptionBudgets: a node drain takes one pod of a role at a time, and pods that do not work hinder no drain.

maxUnavailable rather than minAvailable: with one replica, minAvailable 1 would block every node drain for ever. A canary's
pod has none, and counts in none: one that cannot start would hold up the drain of every other engine's node.
"""

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import (
    child_metadata,
    engine_name,
    prefill_name,
    router_name,
    selector_labels,
)


def build_engine_disruption_budget(deployment: Json) -> Json:
    budget = _budget(deployment, child=engine_name(deployment["metadata"]["name"]), role=contract.ROLE_ENGINE)
    stable = {"key": contract.LABEL_TRACK, "operator": "DoesNotExist"}
    budget["spec"]["selector"]["matchExpressions"] = [stable]
    return budget


def build_prefill_disruption_budget(deployment: Json) -> Json:
    return _budget(deployment, child=prefill_name(deployment["metadata"]["name"]), role=contract.ROLE_PREFILL)


def build_router_disruption_budget(owner: Json) -> Json:
    return _budget(owner, child=router_name(owner["metadata"]["name"]), role=contract.ROLE_ROUTER)


def _budget(owner: Json, *, child: str, role: str) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(owner, name=child, role=role),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_labels(owner["metadata"]["name"], role=role, kind=owner["kind"])},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
