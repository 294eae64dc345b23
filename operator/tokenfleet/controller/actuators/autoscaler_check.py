"""ScalingReady where a HorizontalPodAutoscaler decides: what that says of itself, as it stands in its status. Pure."""

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller.observed import Json, Observed

KIND = "HorizontalPodAutoscaler"
_STEPS = {
    "FailedGetExternalMetric": "Set the chart's autoscaling.externalMetrics.enabled, or install an adapter that serves "
    "external.metrics.k8s.io; where it is served, the routers' load is not known at present. The count stays as it is.",
    "ScalingDisabled": "A HorizontalPodAutoscaler does not start what stands at 0: scale to 1 yourself.",
}


def autoscaler_ready(observed: Observed) -> Verdict:
    """Of an LLMDeployment whose actuator is HPA."""
    live = observed.children.get((KIND, observed.name))
    if live is None:
        return Verdict(status="Unknown", reason=conditions.CREATING, message=f"The {KIND} {observed.name} is about to be made.")
    listed = (live.get("status") or {}).get("conditions") or ()
    active: Json = next((each for each in listed if each.get("type") == "ScalingActive"), {})
    if active.get("status") != "False":
        return Verdict(status="True", reason=conditions.AS_EXPECTED, message=f"The {KIND} {observed.name} decides.")
    words = str(active.get("message") or active.get("reason") or "it does not say why").rstrip(".")
    step = _STEPS.get(str(active.get("reason")), f"Look at kubectl -n {observed.namespace} describe hpa {observed.name}.")
    return Verdict(
        status="False",
        reason=conditions.AUTOSCALER_INACTIVE,
        message=f"The {KIND} {observed.name} cannot scale: {words}. {step}",
    )
