"""The status of an LLMDeployment or LLMRouter, whole: a pure function of what was seen, and what spec and writes came to.

The same input gives the same status; `now` is only used where a condition changes sides. So a status that is equal to the one
that stands there already needs no write.
"""

from collections.abc import Sequence

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, LLMRouterSpec, Spec
from tokenfleet.controller import pods, shared_router
from tokenfleet.controller.autoscaling import scaling_status
from tokenfleet.controller.goodbyes.course import wanted_replicas
from tokenfleet.controller.inspections import fit_status
from tokenfleet.controller.inspections.fit import Fit
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.controller.resources.inspection import JOB
from tokenfleet.controller.resources.metadata import selector_text, service_url
from tokenfleet.controller.verdicts import checks, failures
from tokenfleet.controller.wording import sentence
from tokenfleet.errors import InvalidSpec

_ROLE = {contract.KIND: contract.ROLE_ENGINE, contract.ROUTER_KIND: contract.ROLE_ROUTER}
"""Whose pods a kind's replicas are."""
_KIND = {LLMDeploymentSpec: contract.KIND, LLMRouterSpec: contract.ROUTER_KIND}
_REPLICAS = {contract.KIND: 1, contract.ROUTER_KIND: 2}


def build_status(
    observed: Observed,
    spec: Spec | InvalidSpec,
    outcome: Outcome,
    fit: Fit | None = None,
    *,
    rollout: Json | None = None,
    draining: Sequence[Json] = (),
    now: str,
) -> Json:
    """The status to apply. `observed` is best taken after the writes; `now` is RFC 3339 in UTC, in whole seconds.

    fit: whether the model fits, as the plan has it; None: nobody asks.
    rollout: how far a canary is, as the plan has it. Its pod is no replica: it is there beside those that are wanted.
    draining: the pods that say goodbye, as the course has them.
    """
    previous, role = observed.owner.get("status") or {}, _ROLE[observed.kind]
    replicas = [pod for pod in observed.pods if pods.role(pod) == role and pods.track(pod) == contract.TRACK_STABLE]
    routable = sum(pods.is_routable(pod) for pod in replicas)
    wanted = _wanted(observed, spec)
    url = _url(observed)
    fit = fit_status.after(fit, outcome)
    verdicts = _verdicts(observed, spec, outcome, rollout, fit)
    generation = observed.owner["metadata"]["generation"]
    status: Json = {
        "observedGeneration": generation,
        "replicas": sum(pods.is_active(pod) for pod in replicas),
        "readyReplicas": routable,
        "ready": f"{routable}/{wanted}",
        "selector": selector_text(observed.name, role=role, kind=observed.kind),
        "url": url,
        **_particulars(observed, spec, previous, now),
        **fit_status.figures(observed, spec, fit),
        "draining": list(draining) or None,
        "rollout": rollout,
        "conditions": [
            _condition(kind, verdict, previous, generation=generation, now=now)
            for kind, verdict in {conditions.READY: ready(verdicts, url=url), **verdicts}.items()
        ],
    }
    return {name: value for name, value in status.items() if value is not None}


def _wanted(observed: Observed, spec: Spec | InvalidSpec) -> int:
    if isinstance(spec, LLMDeploymentSpec):
        return wanted_replicas(observed, spec)
    return int((observed.owner.get("spec") or {}).get("replicas", _REPLICAS[observed.kind]))


def _verdicts(
    observed: Observed, spec: Spec | InvalidSpec, outcome: Outcome, rollout: Json | None, fit: Fit | None
) -> dict[str, Verdict]:
    """What Ready is made of, in the order of conditions.PARTS."""
    valid = None if isinstance(spec, InvalidSpec) else spec
    verdict = spec_valid(spec, outcome)
    if verdict.status == "True" and isinstance(spec, LLMRouterSpec):
        verdict = shared_router.routes(observed, spec) or verdict
    verdicts = {conditions.SPEC_VALID: verdict, conditions.ROUTER_READY: checks.router_ready(observed, valid)}
    if observed.kind == contract.KIND:
        verdicts[conditions.ENGINE_READY] = checks.engine_ready(observed, valid, rollout, waits=fit.waits if fit else None)
        if fit is not None:
            verdicts[conditions.MODEL_FITS] = fit.verdict
        if (scaling := scaling_status.scaling_ready(observed, spec, outcome)) is not None:
            verdicts[conditions.SCALING_READY] = scaling
    return {part: verdicts[part] for part in conditions.PARTS if part in verdicts}


def _particulars(observed: Observed, spec: Spec | InvalidSpec, previous: Json, now: str) -> Json:
    """What only one kind has."""
    if observed.kind == contract.KIND:
        engines = [pod for pod in observed.pods if pods.is_engine(pod)]
        return {
            **scaling_status.figures(observed),
            "cost": observed.cost,
            "scaling": scaling_status.scaling(observed, spec, now=now),
            "lastFailure": failures.last_failure(engines, previous=previous.get("lastFailure")),
            "download": observed.download.as_status() if observed.download else None,
        }
    models = shared_router.models(observed, spec) if isinstance(spec, LLMRouterSpec) else previous.get("models")
    return {"models": models}


def _url(observed: Observed) -> str | None:
    """Where clients send requests; None where the LLMRouter that is to take them is not there."""
    if observed.router_ref is not None:
        return shared_router.url(observed)
    spec = observed.owner.get("spec") or {}
    router = (spec.get("router") or {}) if observed.kind == contract.KIND else spec
    return service_url(observed.name, namespace=observed.namespace, tls=bool(router.get("tls")))


def spec_valid(spec: Spec | InvalidSpec, outcome: Outcome) -> Verdict:
    """SpecValid: whether the spec can be run, and whether the API server took what we made of it.

    An inspection that the API server does not take keeps nothing from running; ModelFits tells of that.
    """
    if isinstance(spec, InvalidSpec):
        return _false(spec.reason, f"{sentence(spec.message)} What ran before goes on.")
    if conflicts := [key for key in outcome.conflicts if key[0] != JOB]:
        names = ", ".join(f"{kind} {name}" for kind, name in sorted(conflicts))
        return _false(
            conditions.NAME_CONFLICT,
            f"Someone else's objects stand in the way and were left as they are: {names}. "
            f"Remove them, or give the {_KIND[type(spec)]} another name.",
        )
    if refusals := [refusal for refusal in outcome.refusals if refusal.kind != JOB]:
        words = "; ".join(f"{refusal.kind} {refusal.name}: {refusal.message}" for refusal in refusals)
        return _false(
            conditions.REJECTED_BY_API_SERVER,
            f"The API server refused {sentence(words)} Change what it names, mostly in spec.podTemplate.",
        )
    return Verdict(status="True", reason=conditions.AS_EXPECTED, message="The spec can be run.")


def ready(verdicts: dict[str, Verdict], *, url: str | None) -> Verdict:
    """Ready: True exactly when all parts are that requests need; in the words of the first that has something to tell.

    Whether a model fits keeps nothing from being ready while nobody knows.
    """
    verdicts = {kind: part for kind, part in verdicts.items() if (kind, part.status) != (conditions.MODEL_FITS, "Unknown")}
    needed = [part for kind, part in verdicts.items() if kind != conditions.SCALING_READY]
    if (failed := next((part for part in needed if part.status != "True"), None)) is not None:
        return failed
    telling = next((part for part in verdicts.values() if part.reason != conditions.AS_EXPECTED), None)
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
