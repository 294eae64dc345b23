"""How an inspection goes, read from its Job and its pods: under way, in trouble, or over without a word. Pure.

In trouble is what waiting alone does not mend soon: no node, no image, no Secret, an end with an error. What is wrong stays
told while the Job tries again, since nothing else is known until it succeeds.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from tokenfleet import contract
from tokenfleet.controller import moments, pods
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.verdicts import container_checks, failures
from tokenfleet.controller.wording import sentence

AGAIN_SECONDS: Final = 300.0
"""After this, a Job that came to nothing is replaced by another."""


def pods_of(observed: Observed, *, of: str) -> list[Json]:
    """Those that inspect this, the newest first; pods of another inspection, and those going away, tell nothing."""
    own = (pod for pod in observed.pods if pods.role(pod) == contract.ROLE_INSPECTION and not pods.is_going(pod))
    return pods.newest_first(pod for pod in own if _inspects(pod) == of)


def has_told(pod: Json) -> bool:
    """Whether its log says what the model is. A container beside it, of a service mesh, may run on."""
    end = _end(pods.container(pod, contract.CONTAINER_INSPECTION))
    return end is not None and end.get("exitCode") == 0


def trouble(job: Json, found: Sequence[Json]) -> str:
    """What is in the way, in sentences; empty: nothing. Pods of the Job before tell of what may just have been mended."""
    found = [pod for pod in found if _owners(pod) <= {job["metadata"].get("uid")}]
    words = next((words for pod in found if (words := _pod_trouble(pod))), "")
    failed = _condition(job, "Failed")
    if words or failed is None:
        return words or ("Its log is gone." if _is_over(job) and not any(map(has_told, found)) else "")
    return sentence(failed.get("message") or failed.get("reason") or "It failed")


def over_since(job: Json) -> float | None:
    """When the Job ended, in seconds since 1970; None: it goes on."""
    ends = [end for kind in ("Failed", "Complete") if (end := _condition(job, kind)) is not None]
    changed = next((end.get("lastTransitionTime") for end in ends), None)
    return moments.seconds(changed) if changed else None


def _is_over(job: Json) -> bool:
    return over_since(job) is not None


def _condition(job: Json, kind: str) -> Json | None:
    found: list[Json] = (job.get("status") or {}).get("conditions") or []
    return next((each for each in found if each.get("type") == kind and each.get("status") == "True"), None)


def _pod_trouble(pod: Json) -> str:
    return next(_troubles(pod), "")


def _troubles(pod: Json) -> Iterator[str]:
    placed = pods.condition(pod, "PodScheduled") or {}
    if placed.get("status") == "False":
        words = str(placed.get("message") or placed.get("reason") or "no reason given").partition(" preemption:")[0]
        yield f"No node takes its pod: {sentence(words)}"
    status = pods.container(pod, contract.CONTAINER_INSPECTION) or {}
    waiting = (status.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") in container_checks.IMAGE_REASONS | container_checks.CONFIG_REASONS:
        yield f"Its container cannot be made: {sentence(waiting.get('message') or waiting['reason'])}"
    end = _end(status)
    if end is not None and end.get("exitCode") != 0:
        yield sentence(failures.explain(pod, status, end).message)
    if pods.phase(pod) == "Failed" and end is None:
        said = pod.get("status") or {}
        yield sentence(said.get("message") or said.get("reason") or "Its pod failed")


def _end(status: Json | None) -> Json | None:
    end: Json | None = ((status or {}).get("state") or {}).get("terminated")
    return end


def _owners(pod: Json) -> set[str]:
    return {one["uid"] for one in pod["metadata"].get("ownerReferences") or () if one.get("controller")}


def _inspects(pod: Json) -> str | None:
    of: str | None = (pod["metadata"].get("annotations") or {}).get(contract.ANNOTATION_INSPECTS)
    return of
