"""What the router reads of Kubernetes' objects: the few fields it needs, decoded straight from JSON, and their meaning.

msgspec skips all other fields without building them, so a list of pods costs little more than its bytes.
"""

from datetime import datetime
from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router.replicas import Sighting, State


class Annotations(msgspec.Struct, frozen=True):
    """Of a pod."""

    draining: str | None = msgspec.field(name=contract.ANNOTATION_DRAINING, default=None)


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Of anything."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    annotations: Annotations | None = None


class ClusterObject(msgspec.Struct, frozen=True):
    """Anything."""

    metadata: Metadata


class Condition(msgspec.Struct, frozen=True):
    """Of a pod."""

    type: str
    status: str


class PodStatus(msgspec.Struct, frozen=True):
    """Of a pod."""

    phase: str = ""
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    conditions: list[Condition] | None = None


class Pod(ClusterObject, frozen=True):
    """An engine's pod."""

    status: PodStatus | None = None


class ModelSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of an LLMDeployment."""

    served_name: str | None = None


class DeploymentSpec(msgspec.Struct, frozen=True):
    """Of an LLMDeployment."""

    model: ModelSpec | None = None


class Deployment(ClusterObject, frozen=True):
    """An LLMDeployment."""

    spec: DeploymentSpec | None = None


_READY: Final = Condition("Ready", "True")


def sighting(pod: Pod) -> Sighting:
    """A pod, as a replica: draining counts before unready, since both the mark and the deletion also make it unready."""
    status = pod.status or PodStatus()
    state, reason = _state(pod.metadata, status)
    return Sighting(
        key=pod.metadata.uid,
        name=pod.metadata.name,
        host=status.pod_ip or "",
        port=contract.ENGINE_PORT,
        state=state,
        reason=reason,
    )


def _state(metadata: Metadata, status: PodStatus) -> tuple[State, str]:
    """Ordered checks; the first that applies decides."""
    annotations = metadata.annotations or Annotations()
    checks = (
        (metadata.deletion_timestamp is not None, State.DRAINING, "it is being deleted"),
        (annotations.draining is not None, State.DRAINING, f"it drains until {annotations.draining}"),
        (status.phase != "Running", State.UNREADY, f"its phase is {status.phase or 'unknown'}"),
        (not status.pod_ip, State.UNREADY, "it has no address yet"),
        (_READY not in (status.conditions or ()), State.UNREADY, "its condition Ready is not True"),
    )
    return next(((state, reason) for applies, state, reason in checks if applies), (State.ROUTABLE, ""))


def served_name(deployment: Deployment) -> str:
    """What requests call its model."""
    model = deployment.spec.model if deployment.spec else None
    return (model.served_name if model else None) or deployment.metadata.name


def created(deployment: Deployment) -> int:
    """Its creation, in seconds since 1970."""
    stamp = deployment.metadata.creation_timestamp
    return int(datetime.fromisoformat(stamp).timestamp()) if stamp else 0
