"""PodDisruptionBudgets: a node drain takes one pod of a role at a time, and pods that do not work hinder no drain.

maxUnavailable rather than minAvailable: with one replica, minAvailable 1 would block every node drain for ever.
"""

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, engine_name, router_name, selector_labels


def build_engine_disruption_budget(deployment: Json) -> Json:
    return _budget(deployment, child=engine_name(deployment["metadata"]["name"]), role=contract.ROLE_ENGINE)


def build_router_disruption_budget(deployment: Json) -> Json:
    return _budget(deployment, child=router_name(deployment["metadata"]["name"]), role=contract.ROLE_ROUTER)


def _budget(deployment: Json, *, child: str, role: str) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(deployment, name=child, role=role),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_labels(deployment["metadata"]["name"], role=role)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
