"""What a pod's status says, asked by name instead of by path. Reads single pods; what several of them come to is checks.py's.

"Routable" is what a router goes by (router/source/cluster_objects.py): status.readyReplicas counts exactly the pods that get
requests.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from tokenfleet import contract
from tokenfleet.controller.observed import Json

_GATED: Final = "ReadinessGatesNotReady"
"""The kubelet's reason where all containers of a pod are ready, and one of its gates is not open."""


def role(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get(contract.LABEL_ROLE, ""))


def is_engine(pod: Json) -> bool:
    """Whether an engine runs in it, in whichever role and on whichever track."""
    return role(pod) in (contract.ROLE_ENGINE, contract.ROLE_PREFILL)


def track(pod: Json) -> str:
    """Whether it is a canary's, contract.TRACK_CANARY, or one of the stable ones."""
    return str((pod["metadata"].get("labels") or {}).get(contract.LABEL_TRACK, contract.TRACK_STABLE))


def is_going(pod: Json) -> bool:
    """Whether it is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Json) -> bool:
    """Whether it counts as a replica: a ReplicaSet replaces pods that are being deleted or have ended for good."""
    return not is_going(pod) and phase(pod) not in ("Failed", "Succeeded")


def is_ready(pod: Json) -> bool:
    """As Kubernetes sees it: a rollout, a ReplicaSet and a PodDisruptionBudget go by this."""
    return (condition(pod, "Ready") or {}).get("status") == "True"


def is_up(pod: Json) -> bool:
    """Whether it is ready, or would be but for its gate, which opens once routers use it.

    That its containers are ready is not enough: the kubelet of a node that is lost takes nothing of that back.
    """
    return is_ready(pod) or (are_containers_ready(pod) and (condition(pod, "Ready") or {}).get("reason") == _GATED)


def are_containers_ready(pod: Json) -> bool:
    return (condition(pod, "ContainersReady") or {}).get("status") == "True"


def awaits_use(pod: Json) -> bool:
    """Whether all that it lacks is that routers use it."""
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    opened = (condition(pod, contract.CONDITION_IN_USE) or {}).get("status") == "True"
    gated = any(gate.get("conditionType") == contract.CONDITION_IN_USE for gate in gates)
    return gated and not opened and are_containers_ready(pod)


def is_draining(pod: Json) -> bool:
    """Whether it is marked so."""
    return contract.ANNOTATION_DRAINING in (pod["metadata"].get("annotations") or {})


def is_routable(pod: Json) -> bool:
    """Whether routers give it new requests."""
    address = (pod.get("status") or {}).get("podIP")
    return not is_going(pod) and not is_draining(pod) and phase(pod) == "Running" and bool(address) and is_up(pod)


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def condition(pod: Json, kind: str) -> Json | None:
    """The condition of this type, where the pod has it."""
    found = (pod.get("status") or {}).get("conditions") or []
    return next((item for item in found if item.get("type") == kind), None)


def containers(pod: Json) -> Iterator[Json]:
    """The status of every container, in the order in which they start: init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def container(pod: Json, name: str) -> Json | None:
    """The status of one container, once there is any."""
    return next((status for status in containers(pod) if status["name"] == name), None)


def is_running(status: Json | None) -> bool:
    """Whether a container, by its status, runs right now."""
    return bool(((status or {}).get("state") or {}).get("running"))


def has_begun(pod: Json) -> bool:
    """Whether its engine came through its start, and so may have requests."""
    return is_up(pod) or bool((container(pod, contract.CONTAINER_ENGINE) or {}).get("started"))


def is_fetching(pod: Json) -> bool:
    """Whether its init container fetches the model; one that goes on beside the engine has nothing to do with that."""
    inits = (pod.get("status") or {}).get("initContainerStatuses") or ()
    fetch = next((status for status in inits if status["name"] == contract.CONTAINER_FETCH), None)
    return is_active(pod) and is_running(fetch) and not is_running(container(pod, contract.CONTAINER_ENGINE))


def was_ready_since_start(pod: Json, status: Json) -> bool:
    """Whether a container that runs and is not ready was ready before, and did not restart since.

    A pod stops being ready when its container ends, so before the container's new start; later than that, it was the probe.
    """
    started = str(((status.get("state") or {}).get("running") or {}).get("startedAt") or "")
    changed = str((condition(pod, "Ready") or {}).get("lastTransitionTime") or "")
    return bool(started) and changed > started


def template_hash(pod: Json) -> str:
    """Which ReplicaSet made it: pods of one pod template have the same."""
    return str((pod["metadata"].get("labels") or {}).get("pod-template-hash", ""))


def newest_first(pods: Iterable[Json]) -> list[Json]:
    """By creation, then by name, so that the same pods always come in the same order."""
    return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]), reverse=True)
