"""Which model is to be inspected, and what is known of it: the digest that ties status.model to a spec.

Reads the spec as the user wrote it, so that what is known can be told for a spec that cannot be run as well.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet.controller.drift import digest
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.planning.model import ModelFacts

UNKNOWN: Final = "unknown"
"""In status.model.facts, alone: why planning cannot count with this model."""
_FORM: Final = 1
"""Of what an inspection gives: another number, and every model is inspected anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an inspection came to."""

    facts: ModelFacts | None = None
    draft: ModelFacts | None = None
    unknown: str = ""
    """Why there are no facts, in a sentence."""


def digest_of(owner: Json) -> str:
    """As status.model.of: another one for another source, revision or draft."""
    spec = owner.get("spec") or {}
    model, guesses = spec.get("model") or {}, (spec.get("engine") or {}).get("speculative") or {}
    said = (model.get("source"), model.get("revision"), guesses.get("draftModel"), guesses.get("draftRevision"))
    return digest([_FORM, *said])


def model_of(observed: Observed) -> Json | None:
    """As status.model: as just read, or as it was; whichever model it is of."""
    before: Json | None = (observed.owner.get("status") or {}).get("model")
    return observed.model or before


def known(observed: Observed) -> Known | None:
    """What is known of the model that the spec names now."""
    return _read(model_of(observed), of=digest_of(observed.owner))


def is_kept(observed: Observed) -> bool:
    """Whether the status holds that already, so that its pod is needed no more."""
    return _read((observed.owner.get("status") or {}).get("model"), of=digest_of(observed.owner)) is not None


def _read(model: Json | None, *, of: str) -> Known | None:
    """None also where an earlier release wrote it in a form that is no more."""
    if model is None or model.get("of") != of:
        return None
    facts, draft = model.get("facts") or {}, model.get("draft")
    if UNKNOWN in facts:
        return Known(unknown=str(facts[UNKNOWN]))
    try:
        return Known(facts=ModelFacts.from_json(facts), draft=None if draft is None else ModelFacts.from_json(draft))
    except (KeyError, TypeError):
        return None
