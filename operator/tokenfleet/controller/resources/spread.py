"""Where the pods of one Deployment go: apart from each other where that is possible, and anywhere rather than nowhere."""

from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import selector_labels


def over_nodes(name: str, *, role: str) -> list[Json]:
    """topologySpreadConstraints that keep one node's end from taking all replicas of a role with it."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector_labels(name, role=role)},
        }
    ]
