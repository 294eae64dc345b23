"""Who decides how many replicas run where the controller does not: a HorizontalPodAutoscaler, or KEDA's ScaledObject.

Both scale the LLMDeployment by its /scale and never the engines' Deployment, whose count follows behind drains: so there is one
owner of each number. Both go by what waits and by what is in flight: by the first alone, replicas that are busy while nothing
waits would be taken away.
"""

from typing import Final

from tokenfleet import contract
from tokenfleet.api.scaling import Autoscaling
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.kinds import SCALED_OBJECT
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata
from tokenfleet.controller.resources.quantities import canonical_quantity
from tokenfleet.planning.scaling.policy import DEFAULT_MAX_IN_FLIGHT

BUSY_SHARE: Final = 0.8
"""Of that, in flight on each replica: the rest is for what comes until the next replica is there."""
POLLING_SECONDS: Final = 5
_UP_PERIOD_SECONDS: Final = 15


def build_autoscaler(deployment: Json, spec: LLMDeploymentSpec, router_max_in_flight: int | None = None) -> list[Json]:
    """The HorizontalPodAutoscaler where one decides; none while the LLMDeployment is suspended, so that its count stays."""
    scaling = spec.autoscaling
    if scaling is None or scaling.actuator != "HPA" or spec.suspend:
        return []
    name = deployment["metadata"]["name"]
    targets = {
        contract.EXTERNAL_METRIC_QUEUE_DEPTH: scaling.queue_depth,
        contract.EXTERNAL_METRIC_IN_FLIGHT: in_flight_target(spec, scaling, router_max_in_flight),
    }
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": child_metadata(deployment, name=name, role=contract.ROLE_ENGINE),
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [_metric(name, metric, target) for metric, target in targets.items()],
            "behavior": _behavior(scaling),
        },
    }
    return [body]


def build_scaled_object(
    deployment: Json, spec: LLMDeploymentSpec, router_max_in_flight: int | None = None, *, scaler: str
) -> Json | None:
    """KEDA's ScaledObject where KEDA decides; None while suspended, too. scaler: host:port of the external scaler."""
    scaling = spec.autoscaling
    if scaling is None or scaling.actuator != "KEDA" or spec.suspend:
        return None
    name = deployment["metadata"]["name"]
    trigger = {
        "scalerAddress": scaler,
        "deployment": name,
        "queueDepth": str(scaling.queue_depth),
        "concurrency": str(in_flight_target(spec, scaling, router_max_in_flight)),
    }
    idle = scaling.scale_to_zero_after_seconds
    return {
        "apiVersion": SCALED_OBJECT.api_version,
        "kind": SCALED_OBJECT.name,
        "metadata": child_metadata(deployment, name=name, role=contract.ROLE_ENGINE),
        "spec": {
            "scaleTargetRef": _target(name),
            "pollingInterval": POLLING_SECONDS,
            # The first is for one that was never active: without it KEDA stops a new model before anyone could ask it.
            **({} if idle is None else {"initialCooldownPeriod": idle, "cooldownPeriod": idle}),
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
            "triggers": [{"type": "external-push", "metricType": "AverageValue", "metadata": trigger}],
        },
    }


def in_flight_target(spec: LLMDeploymentSpec, scaling: Autoscaling, router_max_in_flight: int | None = None) -> int:
    """Requests in flight that are wanted on each replica. router_max_in_flight: of the LLMRouter, with spec.routerRef."""
    if scaling.concurrency is not None:
        return scaling.concurrency
    own = router_max_in_flight if spec.router_ref else spec.router.max_in_flight
    return max(1, int((own or spec.engine.batching.max_num_seqs or DEFAULT_MAX_IN_FLIGHT) * BUSY_SHARE))


def _target(name: str) -> Json:
    return {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "name": name}


def _metric(name: str, metric: str, target: int) -> Json:
    identifier = {"name": metric, "selector": {"matchLabels": {"deployment": name}}}
    return {
        "type": "External",
        "external": {"metric": identifier, "target": {"type": "AverageValue", "averageValue": canonical_quantity(target)}},
    }


def _behavior(scaling: Autoscaling) -> Json:
    """Up at once, and as far as it takes; down by one, after each time that the load fitted on fewer for as long."""
    window = scaling.scale_down.stabilization_seconds
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": scaling.max_replicas, "periodSeconds": _UP_PERIOD_SECONDS}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": window,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": max(1, window)}],
        },
    }
