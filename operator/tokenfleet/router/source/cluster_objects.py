"""What the router reads of Kubernetes' objects: the few fields it needs, decoded straight from JSON, and their meaning.

msgspec skips all other fields without building them, so a list of pods costs little more than its bytes. What a spec says of
the router stays as it came (`Raw`): inventory.py reads it by terms.py, and one that cannot be read must not stop the watch.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.router.balancing.replicas import Sighting, State


class Annotations(msgspec.Struct, frozen=True):
    """Of a pod."""

    draining: str | None = msgspec.field(name=contract.ANNOTATION_DRAINING, default=None)
    adapters: str | None = msgspec.field(name=contract.ANNOTATION_ADAPTERS, default=None)


class Labels(msgspec.Struct, frozen=True):
    """Of a pod."""

    deployment: str = msgspec.field(name=contract.LABEL_DEPLOYMENT, default="")
    role: str = msgspec.field(name=contract.LABEL_ROLE, default="")
    track: str = msgspec.field(name=contract.LABEL_TRACK, default=contract.TRACK_STABLE)


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Of anything."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    annotations: Annotations | None = None


class ClusterObject(msgspec.Struct, frozen=True):
    """Anything."""

    metadata: Metadata


class Condition(msgspec.Struct, frozen=True):
    """Of a pod."""

    type: str
    status: str
    reason: str | None = None


class PodStatus(msgspec.Struct, frozen=True):
    """Of a pod."""

    phase: str = ""
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    conditions: list[Condition] | None = None


class Pod(ClusterObject, frozen=True):
    """An engine's pod."""

    status: PodStatus | None = None


class Adapter(msgspec.Struct, frozen=True):
    """Of an LLMDeployment's model."""

    name: str


class ModelSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of an LLMDeployment."""

    served_name: str | None = None
    adapters: tuple[Adapter, ...] = ()


class Batching(msgspec.Struct, frozen=True, rename="camel"):
    """Of an LLMDeployment's engine."""

    max_num_seqs: int | None = None


class Engine(msgspec.Struct, frozen=True, rename="camel"):
    """Of an LLMDeployment."""

    max_model_len: int | None = None
    batching: Batching = Batching()


class Disaggregation(msgspec.Struct, frozen=True):
    """Of an LLMDeployment: that it is there is what counts."""


class RouterRef(msgspec.Struct, frozen=True):
    """Of an LLMDeployment."""

    name: str = ""


class DeploymentSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of an LLMDeployment."""

    model: ModelSpec = ModelSpec()
    engine: Engine = Engine()
    router: msgspec.Raw = msgspec.Raw(b"{}")
    router_ref: RouterRef | None = None
    disaggregation: Disaggregation | None = None
    continue_streams: bool = True


class RolloutStatus(msgspec.Struct, frozen=True):
    """Of an LLMDeployment."""

    weight: int = 0


class DeploymentStatus(msgspec.Struct, frozen=True):
    """Of an LLMDeployment."""

    rollout: RolloutStatus | None = None


class Deployment(ClusterObject, frozen=True):
    """An LLMDeployment."""

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus | None = None


class Target(msgspec.Struct, frozen=True):
    """Of a route."""

    deployment: str
    weight: int = 1


class Route(msgspec.Struct, frozen=True):
    """Of an LLMRouter."""

    model: str
    targets: tuple[Target, ...] = ()
    fallbacks: tuple[str, ...] = ()


class SharedRouter(ClusterObject, frozen=True):
    """An LLMRouter."""

    spec: msgspec.Raw = msgspec.Raw(b"{}")


_GATED: Final = "ReadinessGatesNotReady"
"""Why a pod is not Ready whose containers all are: its readiness gate is for others, and opens once routers use it."""


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
        adapters=_adapters(pod.metadata),
    )


Group = tuple[str, str, str]
"""Pods of one LLMDeployment, role and track."""


def group_of(pod: Pod) -> Group:
    """Whose it is, in which role, and on which track."""
    labels = pod.metadata.labels or Labels()
    return labels.deployment, labels.role, labels.track


def _adapters(metadata: Metadata) -> frozenset[str]:
    """What its engine loads at its start, and so has when it is ready. Pods of an earlier spec have what that one named."""
    names = (metadata.annotations or Annotations()).adapters or ""
    return frozenset(name.strip() for name in names.split(",") if name.strip())


def _state(metadata: Metadata, status: PodStatus) -> tuple[State, str]:
    """Ordered checks; the first that applies decides."""
    annotations = metadata.annotations or Annotations()
    checks = (
        (metadata.deletion_timestamp is not None, State.DRAINING, "it is being deleted"),
        (annotations.draining is not None, State.DRAINING, f"it drains until {annotations.draining}"),
        (status.phase != "Running", State.UNREADY, f"its phase is {status.phase or 'unknown'}"),
        (not status.pod_ip, State.UNREADY, "it has no address yet"),
        (not _serves(status.conditions or ()), State.UNREADY, "its condition Ready is not True"),
    )
    return next(((state, reason) for applies, state, reason in checks if applies), (State.ROUTABLE, ""))


def _serves(conditions: Iterable[Condition]) -> bool:
    """Whether it is Ready, or would be but for its gate. ContainersReady alone is not enough: it stays when a node is lost."""
    found = {condition.type: condition for condition in conditions}
    ready, containers = found.get("Ready"), found.get("ContainersReady")
    if ready is None or ready.status == "True" or containers is None:
        return ready is not None and ready.status == "True"
    return containers.status == "True" and ready.reason == _GATED


def served_name(deployment: Deployment) -> str:
    """What requests call its model."""
    return deployment.spec.model.served_name or deployment.metadata.name


def created(deployment: Deployment) -> int:
    """Its creation, in seconds since 1970."""
    stamp = deployment.metadata.creation_timestamp
    return int(datetime.fromisoformat(stamp).timestamp()) if stamp else 0
