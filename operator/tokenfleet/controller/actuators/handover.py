"""The count where a HorizontalPodAutoscaler or KEDA decides, and how it passes from one who decides to the next. Pure.

Both write spec.replicas, so that is what is wanted, with one exception: while the controller itself decided, spec.replicas
stood still, perhaps far from what runs. Then what ran goes on until the other one has looked at the load, and has set
spec.replicas or left it on purpose. The way back needs nothing: the controller begins with spec.replicas, which is what ran.
"""

from typing import Final

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.actuators.autoscaler_check import KIND
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.planning.scaling import reasons

BUILTIN: Final = "Builtin"
KEPT: Final = 5
"""Changes in the history."""
_WHO: Final = {"HPA": "the HorizontalPodAutoscaler", "KEDA": "KEDA"}


def external(spec: LLMDeploymentSpec) -> str | None:
    """Who decides instead of the controller: HPA or KEDA; None: the controller, or nobody."""
    actuator = None if spec.autoscaling is None else spec.autoscaling.actuator
    return None if actuator == BUILTIN else actuator


def wanted(observed: Observed, spec: LLMDeploymentSpec, *, decides: bool) -> int:
    """Replicas that are wanted where another than the controller decides. decides: whether that one has begun to."""
    before = scaling_before(observed)
    return spec.replicas if _taken_over(before, spec, decides=decides) else int(before["desired"])


def _taken_over(before: Json, spec: LLMDeploymentSpec, *, decides: bool) -> bool:
    return decides or before.get("actuator") != BUILTIN or before.get("specReplicas") != spec.replicas


def status(observed: Observed, spec: LLMDeploymentSpec, *, now: str) -> Json | None:
    """status.scaling where another than the controller decides; None: it is for someone else to write. now: RFC 3339."""
    if (actuator := external(spec)) is None:
        return None
    before, begun = scaling_before(observed), decides(observed)
    count, taken_over = wanted(observed, spec, decides=begun), _taken_over(before, spec, decides=begun)
    history = list(before.get("history") or ())
    if before and before["desired"] != count:
        message = f"spec.replicas was set to {count}, by {_WHO[actuator]} unless somebody else did."
        change = {"before": before["desired"], "after": count, "reason": reasons.REPLICAS_SET, "message": message}
        history = [{"time": now, **change}, *history][:KEPT]
    told: Json = {"desired": count, "actuator": actuator if taken_over else BUILTIN, "specReplicas": spec.replicas}
    return {**told, "history": history} if history else told


def decides(observed: Observed) -> bool:
    """Whether a HorizontalPodAutoscaler, ours or KEDA's, has looked at the load and could make something of it."""
    return any(_is_active(live) for (kind, _), live in observed.children.items() if kind == KIND)


def _is_active(live: Json) -> bool:
    listed = (live.get("status") or {}).get("conditions") or ()
    return any((each.get("type"), each.get("status")) == ("ScalingActive", "True") for each in listed)


def scaling_before(observed: Observed) -> Json:
    """status.scaling as it stands; {} where there is none."""
    found: Json = (observed.owner.get("status") or {}).get("scaling") or {}
    return found
