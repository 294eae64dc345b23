"""Whether what a plan starts finds room in the cluster: how many pods there are to start, and for how many there is. Pure."""

from collections.abc import Sequence

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.cli.cluster.capacity import Supply, demand_of
from tokenfleet.cli.plan.changes import Children
from tokenfleet.cli.plan.review import Review
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.capacity import capacity


def add_capacity(review: Review, spec: LLMDeploymentSpec, accelerator: Accelerator, supply: Supply, observed: Observed) -> None:
    """Whether what is to be started finds its devices. The children are those of the review."""
    review.untold += supply.untold
    children = review.children
    if supply.nodes is None or children is None or children.engines is None:
        return
    demand = demand_of(children.engines["spec"]["template"]["spec"])
    wanted = to_start(spec, children, running=running_engines(observed))
    review.capacity = found = capacity(
        demand,
        resource=accelerator.resource,
        wanted=wanted,
        nodes=supply.nodes,
        pending=supply.pending,
        quotas=supply.quotas,
    )
    if found.startable < wanted:
        review.risks.append(f"{found.startable} of {wanted} replicas can start now. {' '.join(found.waits_for)}")


def to_start(spec: LLMDeploymentSpec, children: Children, *, running: int) -> int:
    """Engine pods that have to find room: those that are missing and, where all are replaced, those beyond the count."""
    prefill = 0 if spec.disaggregation is None else int(children.prefill["spec"]["replicas"]) if children.prefill else 0
    wanted = (children.replicas + prefill) if children.replicas else 0
    missing = max(0, wanted - running)
    replaced = any(change.template_differs for change in children.changes if _is_engines(change.name, children))
    return missing + (min(spec.rollout.max_surge, running) if replaced and wanted else 0)


def _is_engines(name: str, children: Children) -> bool:
    engines: Sequence[Json | None] = (children.engines, children.prefill)
    return any(each is not None and each["metadata"]["name"] == name for each in engines)


def running_engines(observed: Observed) -> int:
    """Pods of engines that have a node, and are not on their way out."""
    return sum(
        (pod["metadata"].get("labels") or {}).get(contract.LABEL_ROLE) in (DECODE.role, PREFILL.role)
        and bool(pod["spec"].get("nodeName"))
        and "deletionTimestamp" not in pod["metadata"]
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        for pod in observed.pods
    )
