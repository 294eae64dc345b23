"""What stands on a pod of its goodbye: annotations, so that any controller, and any router, can go on from there.

A pod that drains carries its deadline, and a deletion cost below that of all others; one whose drain is over, while others of
its Deployment still drain, a cost below theirs: then a ReplicaSet that becomes smaller takes exactly this one. The time at
which a notice was first seen stands there too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet.controller import moments
from tokenfleet.controller.observed import Json

LEAVES: Final = -1000
"""Deletion cost of a pod that drains; without one it is 0."""
HAS_LEFT: Final = -2000
"""Of one whose drain is over, where others still drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Annotations to set on a pod, and, where they are None, to take away."""

    pod: str
    uid: str
    annotations: Mapping[str, str | None]


def leaving(*, deadline: float, cost: int) -> dict[str, str | None]:
    return {contract.ANNOTATION_DRAINING: moments.rfc3339(deadline), contract.ANNOTATION_DELETION_COST: str(cost)}


def noticed(*, at: float) -> dict[str, str | None]:
    return {contract.ANNOTATION_NOTICED: moments.rfc3339(at)}


STAYS: Final[Mapping[str, str | None]] = {contract.ANNOTATION_DRAINING: None, contract.ANNOTATION_DELETION_COST: None}
NOT_NOTICED: Final[Mapping[str, str | None]] = {contract.ANNOTATION_NOTICED: None}


def deadline_of(pod: Json) -> float | None:
    """Until when it drains; None: it does not. What is no time counts as over."""
    return _moment(pod, contract.ANNOTATION_DRAINING)


def noticed_at(pod: Json) -> float | None:
    """When a notice about it was first seen."""
    return _moment(pod, contract.ANNOTATION_NOTICED)


def cost_of(pod: Json) -> int:
    """As the ReplicaSet reads it."""
    try:
        return int(_annotations(pod).get(contract.ANNOTATION_DELETION_COST, "0"))
    except ValueError:
        return 0


def _moment(pod: Json, annotation: str) -> float | None:
    text = _annotations(pod).get(annotation)
    if text is None:
        return None
    try:
        return moments.seconds(text)
    except ValueError:
        return 0.0


def _annotations(pod: Json) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}
