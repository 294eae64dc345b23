"""What the status says of the model and of its memory, once the writes are done. Pure."""

from dataclasses import replace

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import Spec
from tokenfleet.controller.inspections import subject
from tokenfleet.controller.inspections.fit import Fit, not_inspected
from tokenfleet.controller.observed import Json, Observed, Outcome
from tokenfleet.controller.resources.inspection import JOB
from tokenfleet.errors import InvalidSpec


def after(fit: Fit | None, outcome: Outcome) -> Fit | None:
    """With what the API server said of the inspection's Job."""
    refusal = next((each for each in outcome.refusals if each.kind == JOB), None)
    if fit is None or refusal is None:
        return fit
    return replace(fit, verdict=not_inspected(f"The API server refuses its Job: {refusal.message}"))


def figures(observed: Observed, spec: Spec | InvalidSpec, fit: Fit | None) -> Json:
    """status.model and status.memory; of a spec that cannot be run, as they were."""
    if observed.kind != contract.KIND:
        return {}
    before = (observed.owner.get("status") or {}).get("memory") if isinstance(spec, InvalidSpec) else None
    return {"model": subject.model_of(observed), "memory": before if fit is None else fit.memory}
