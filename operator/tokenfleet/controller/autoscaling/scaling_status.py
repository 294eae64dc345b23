"""What status says of the count of an LLMDeployment: status.scaling, ScalingReady, and the load as people may see it. Pure.

Where the controller decides, this is what the autoscaler has to tell; until it has looked, and while nothing is decided at all
(suspended, or a spec that cannot be run), what stands there stays.
"""

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller.actuators import handover
from tokenfleet.controller.actuators.autoscaler_check import autoscaler_ready
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.errors import InvalidSpec


def scaling(observed: Observed, spec: Spec | InvalidSpec, *, now: str) -> Json | None:
    """status.scaling; None where nothing scales it. now: RFC 3339."""
    before = handover.scaling_before(observed) or None
    if not isinstance(spec, LLMDeploymentSpec):
        return before
    if spec.autoscaling is None:
        return None
    if handover.external(spec) is not None:
        return handover.status(observed, spec, now=now)
    return observed.scaling or before


def scaling_ready(observed: Observed, spec: Spec | InvalidSpec, outcome: Outcome) -> Verdict | None:
    """ScalingReady; None: there is none, or not yet."""
    if not isinstance(spec, LLMDeploymentSpec):
        return _before(observed)
    if spec.autoscaling is None:
        return None
    if spec.suspend:
        return Verdict(status="True", reason=conditions.AS_EXPECTED, message="spec.suspend is true, so nothing is decided.")
    match handover.external(spec):
        case "HPA":
            return autoscaler_ready(observed)
        case "KEDA":
            return outcome.scaled_object
    return observed.scaling_ready or _before(observed)


def figures(observed: Observed) -> Json:
    """status.queueDepth and status.inFlight."""
    if observed.figures is None:
        before = observed.owner.get("status") or {}
        return {name: before.get(name) for name in ("queueDepth", "inFlight")}
    return {"queueDepth": observed.figures.queue_depth, "inFlight": observed.figures.in_flight}


def _before(observed: Observed) -> Verdict | None:
    """As it stands."""
    listed = (observed.owner.get("status") or {}).get("conditions") or ()
    found = next((each for each in listed if each.get("type") == conditions.SCALING_READY), None)
    return None if found is None else Verdict(**{name: found[name] for name in ("status", "reason", "message")})
