"""Which field of an LLMDeployment names a claim or a Secret, so that a message can say what to change.

Reads the spec as the user wrote it: what stands in the way of a pod has to be told for a spec that cannot be run as well.
What no field of ours names came in by spec.podTemplate.
"""

from collections.abc import Iterator
from typing import Final

from tokenfleet.api.model import CLAIM_SCHEME
from tokenfleet.controller.observed import Json

CREDENTIALS: Final = "spec.model.credentials.secretName"


def claims(owner: Json) -> dict[str, list[str]]:
    """By PersistentVolumeClaim, the fields that name it."""
    found: dict[str, list[str]] = {}
    for field, claim in _named(owner):
        found.setdefault(claim, []).append(field)
    return found


def credentials(owner: Json) -> str | None:
    """The Secret that CREDENTIALS names."""
    name = (_model(owner).get("credentials") or {}).get("secretName")
    return str(name) if name else None


def _named(owner: Json) -> Iterator[tuple[str, str]]:
    model, engine = _model(owner), (owner.get("spec") or {}).get("engine") or {}
    sources = [("spec.model.source", model.get("source"))]
    sources += [(f"spec.model.adapters[{n}].source", each.get("source")) for n, each in enumerate(model.get("adapters") or ())]
    sources += [("spec.engine.speculative.draftModel", (engine.get("speculative") or {}).get("draftModel"))]
    for field, source in sources:
        if str(source).startswith(CLAIM_SCHEME):
            yield field, str(source).removeprefix(CLAIM_SCHEME).partition("/")[0]
    if claim := (model.get("cache") or {}).get("persistentVolumeClaim"):
        yield "spec.model.cache.persistentVolumeClaim", str(claim)


def _model(owner: Json) -> Json:
    model: Json = (owner.get("spec") or {}).get("model") or {}
    return model
