"""Why the engines, or the routers, are not as the spec says: ordered pure checks; the first that finds something decides.

The order is the specification: what a person must act on comes before what only takes time. A verdict is True while at least
one replica can be sent to; its reason still tells what keeps the rest. Messages end with the next step, and hold nothing that
changes by itself (no ages, no restart counts), since every change of a message is a write.
"""

import re
from collections.abc import Callable
from typing import Final

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller import shared_router
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.verdicts import container_checks, placement
from tokenfleet.controller.verdicts.scene import CANARY, ENGINE, PREFILL, ROUTER, Scene, Trouble

Check = Callable[[Scene], Trouble | None]

_ORDINARY: Final = frozenset(
    {conditions.AS_EXPECTED, conditions.CREATING, conditions.FETCHING_MODEL, conditions.LOADING_MODEL, conditions.UPDATING}
)
"""Of a canary's pod: what only takes time."""


def engine_ready(
    observed: Observed, spec: Spec | None, rollout: Json | None = None, *, waits: Trouble | None = None
) -> Verdict:
    """EngineReady. Without a spec that can be run, it speaks of the engines that run on. rollout: as status.rollout.

    waits: what engines wait for that are to be made or changed.
    """
    engines = _judge(Scene(role=ENGINE, observed=observed, spec=spec, waits=waits), ENGINE_CHECKS)
    prefills = Scene(role=PREFILL, observed=observed, spec=spec)
    if engines.status != "True":
        return engines
    if prefills.wanted:
        engines = _with_prefills(engines, _judge(prefills, ENGINE_CHECKS))
    return engines if rollout is None else _with_canary(engines, canary_ready(observed, spec), rollout)


def canary_ready(observed: Observed, spec: Spec | None) -> Verdict:
    """How the pod is that tries a change, while one does."""
    return _judge(Scene(role=CANARY, observed=observed, spec=spec), ENGINE_CHECKS)


def _with_canary(engines: Verdict, canary: Verdict, rollout: Json) -> Verdict:
    """A canary never makes the verdict False; what its pod needs a person for is told where nothing is wrong with the rest."""
    reason = {"Progressing": conditions.CANARY_PROGRESSING, "Promoting": conditions.UPDATING}.get(
        rollout["phase"], conditions.CANARY_ROLLED_BACK
    )
    if rollout["phase"] == "Progressing" and canary.reason not in _ORDINARY:
        reason = canary.reason
    message = f"{engines.message} Canary: {rollout['message']}"
    return Verdict(
        status="True", reason=reason if engines.reason == conditions.AS_EXPECTED else engines.reason, message=message
    )


def _with_prefills(engines: Verdict, prefills: Verdict) -> Verdict:
    """Engines answer without those that read prompts for them, only later: those never make the verdict False."""
    reason = prefills.reason if engines.reason == conditions.AS_EXPECTED else engines.reason
    plainly = "" if prefills.status == "True" else "No prefill replica is ready, so engines read the prompts: "
    return Verdict(status="True", reason=reason, message=f"{engines.message} {plainly}{prefills.message}")


def router_ready(observed: Observed, spec: Spec | None) -> Verdict:
    """RouterReady, likewise; where an LLMRouter serves, that one's."""
    if observed.router_ref is not None:
        return shared_router.verdict(observed)
    return _judge(Scene(role=ROUTER, observed=observed, spec=spec), ROUTER_CHECKS)


def _judge(scene: Scene, checks: tuple[Check, ...]) -> Verdict:
    count = f"{len(scene.routable)} of {scene.wanted} {scene.role.noun} replicas are ready."
    trouble = next((found for check in checks if (found := check(scene)) is not None), None)
    if trouble is None:
        return Verdict(status="True", reason=conditions.AS_EXPECTED, message=count)
    reason, message = trouble
    if scene.serves:
        return Verdict(status="True", reason=reason, message=f"{count} {message}")
    return Verdict(status="False", reason=reason, message=message)


def scaled_to_zero(scene: Scene) -> Trouble | None:
    if scene.wanted > 0 or (scene.spec is None and not scene.owned):
        return None
    ends = " Pods that still run end their requests first; status.draining names them." if scene.active else ""
    if isinstance(scene.spec, LLMDeploymentSpec) and scene.spec.suspend:
        resume = scene.kubectl(f'patch llmd/{scene.observed.name} --type=merge -p \'{{"spec": {{"suspend": false}}}}\'')
        return conditions.SUSPENDED, f"spec.suspend is true, so no engine runs.{ends} {resume} starts them again."
    if isinstance(scene.spec, LLMDeploymentSpec) and scene.spec.autoscaling is not None:
        return conditions.SCALED_TO_ZERO, f"Autoscaling wants no engine right now.{ends} The next request wakes the model."
    scale = scene.kubectl(f"scale llmd/{scene.observed.name} --replicas=1")
    return conditions.SCALED_TO_ZERO, f"spec.replicas is 0, so no engine runs.{ends} {scale} starts one."


def not_made(scene: Scene) -> Trouble | None:
    """There is no Deployment of ours, whatever the cause."""
    if scene.owned:
        return None
    if scene.foreign:
        return conditions.NAME_CONFLICT, f"The Deployment {scene.child_name} belongs to someone else; see SpecValid."
    if scene.spec is None:
        return conditions.INVALID_SPEC, f"No {scene.role.noun} was made, since the spec cannot be run; see SpecValid."
    return scene.waits or (
        conditions.CREATING,
        f"The Deployment {scene.child_name} is about to be made. Where this lasts, the controller's log says why.",
    )


def pods_refused(scene: Scene) -> Trouble | None:
    """The API server does not let the ReplicaSet make pods: quota, Pod Security, a LimitRange, a webhook."""
    failure = next((item for item in _workload_conditions(scene) if item.get("type") == "ReplicaFailure"), None)
    if failure is None or failure.get("status") != "True":
        return None
    words = re.sub(r'^pods "[^"]*" is ', "pods are ", failure.get("message") or "no message")
    if "exceeded quota" in words:
        quota = scene.kubectl("get resourcequota")
        step = f"Raise the quota ({quota}), or ask for less by spec.replicas or spec.engine.resources."
        return conditions.QUOTA_EXCEEDED, f"The namespace's quota forbids the pods: {words}. {step}"
    step = "Change what it names, by spec.podTemplate or in the namespace."
    return conditions.REJECTED_BY_API_SERVER, f"The API server refuses the {scene.role.noun} pods: {words}. {step}"


def not_placed(scene: Scene) -> Trouble | None:
    """The scheduler has no node, in the order in which placement.py tells the causes apart."""
    found = [trouble for pod in scene.waiting if (trouble := placement.explain(scene, pod)) is not None]
    return min(found, key=lambda trouble: placement.ORDER.index(trouble[0]), default=None)


def updating(scene: Scene) -> Trouble | None:
    """A rollout runs while others serve; with nobody serving, what holds the new pods back says more."""
    if not scene.serves or scene.workload is None:
        return None
    if scene.waits is not None:
        return scene.waits
    metadata, status = scene.workload["metadata"], scene.workload.get("status") or {}
    watch = scene.kubectl(f"rollout status deployment/{scene.child_name}")
    if (status.get("observedGeneration") or 0) < (metadata.get("generation") or 0):
        return conditions.UPDATING, f"The change was just applied. {watch} follows it."
    updated, present = status.get("updatedReplicas") or 0, status.get("replicas") or 0
    if present > updated:
        return conditions.UPDATING, f"{updated} of {scene.wanted} are of the newest spec. {watch} follows the rollout."
    return None


_BOTH: tuple[Check, ...] = (
    not_made,
    pods_refused,
    not_placed,
    container_checks.image_not_pulled,
    container_checks.container_not_made,
    container_checks.ended,
    updating,
    container_checks.unhealthy,
    container_checks.starting,
    container_checks.fetching,
    container_checks.creating,
)
ENGINE_CHECKS: tuple[Check, ...] = (scaled_to_zero, *_BOTH, container_checks.awaiting_use)
ROUTER_CHECKS: tuple[Check, ...] = _BOTH


def _workload_conditions(scene: Scene) -> list[Json]:
    return ((scene.workload or {}).get("status") or {}).get("conditions") or []
