"""Where the pods of one Deployment go: apart from each other where that is possible, and anywhere rather than nowhere."""

from tokenfleet.controller.observed import Json


def over_nodes(selector: dict[str, str]) -> list[Json]:
    """topologySpreadConstraints that keep one node's end from taking all pods of a selector with it."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
    ]
