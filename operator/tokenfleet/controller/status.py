"""The status of an LLMDeployment, whole: a pure function of what was seen, what the spec came to, and what the writes came to.

The same input gives the same status; `now` is only used where a condition changes sides. So a status that is equal to the one
that stands there already needs no write.
"""

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller import checks, failures, pods
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.controller.resources.metadata import selector_text, service_url
from tokenfleet.controller.wording import sentence
from tokenfleet.errors import InvalidSpec


def build_status(observed: Observed, spec: LLMDeploymentSpec | InvalidSpec, outcome: Outcome, *, now: str) -> Json:
    """The status to apply. `observed` is best taken after the writes; `now` is RFC 3339 in UTC, in whole seconds."""
    valid = spec if isinstance(spec, LLMDeploymentSpec) else None
    previous = observed.deployment.get("status") or {}
    engines = [pod for pod in observed.pods if pods.role(pod) == contract.ROLE_ENGINE]
    routable = sum(pods.is_routable(pod) for pod in engines)
    url = service_url(observed.name, namespace=observed.namespace)
    verdicts = {
        conditions.SPEC_VALID: spec_valid(spec, outcome),
        conditions.ENGINE_READY: checks.engine_ready(observed, valid),
        conditions.ROUTER_READY: checks.router_ready(observed, valid),
    }
    generation = observed.deployment["metadata"]["generation"]
    status: Json = {
        "observedGeneration": generation,
        "replicas": sum(pods.is_active(pod) for pod in engines),
        "readyReplicas": routable,
        "ready": f"{routable}/{(observed.deployment.get('spec') or {}).get('replicas', 1)}",
        "selector": selector_text(observed.name, role=contract.ROLE_ENGINE),
        "url": url,
        "conditions": [
            _condition(kind, verdict, previous, generation=generation, now=now)
            for kind, verdict in {conditions.READY: ready(verdicts, url=url), **verdicts}.items()
        ],
    }
    failure = failures.last_failure(engines, previous=previous.get("lastFailure"))
    return status if failure is None else {**status, "lastFailure": failure}


def spec_valid(spec: LLMDeploymentSpec | InvalidSpec, outcome: Outcome) -> Verdict:
    """SpecValid: whether the spec can be run, and whether the API server took what we made of it."""
    if isinstance(spec, InvalidSpec):
        return _false(spec.reason, f"{sentence(spec.message)} What ran before goes on.")
    if outcome.conflicts:
        names = ", ".join(f"{kind} {name}" for kind, name in sorted(outcome.conflicts))
        return _false(
            conditions.NAME_CONFLICT,
            f"Someone else's objects stand in the way and were left as they are: {names}. "
            "Remove them, or give the LLMDeployment another name.",
        )
    if outcome.refusals:
        words = "; ".join(f"{refusal.kind} {refusal.name}: {refusal.message}" for refusal in outcome.refusals)
        return _false(
            conditions.REJECTED_BY_API_SERVER,
            f"The API server refused {sentence(words)} Change what it names, mostly in spec.podTemplate.",
        )
    return Verdict(status="True", reason=conditions.AS_EXPECTED, message="The spec can be run.")


def ready(verdicts: dict[str, Verdict], *, url: str) -> Verdict:
    """Ready: True exactly when all parts are; its reason and words are the first part's that has something to tell."""
    parts = [verdicts[kind] for kind in conditions.PARTS]
    if (failed := next((part for part in parts if part.status != "True"), None)) is not None:
        return failed
    telling = next((part for part in parts if part.reason != conditions.AS_EXPECTED), None)
    served = f"Requests are served at {url}."
    if telling is None:
        return Verdict(status="True", reason=conditions.AS_EXPECTED, message=served)
    return Verdict(status="True", reason=telling.reason, message=f"{served} {telling.message}")


def _false(reason: str, message: str) -> Verdict:
    return Verdict(status="False", reason=reason, message=message)


def _condition(kind: str, verdict: Verdict, previous: Json, *, generation: int, now: str) -> Json:
    """With the time of the last change of sides, which an equal status keeps."""
    before: Json = next((item for item in previous.get("conditions") or [] if item.get("type") == kind), {})
    return {
        "type": kind,
        "status": verdict.status,
        "reason": verdict.reason,
        "message": verdict.message,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == verdict.status else now,
    }
