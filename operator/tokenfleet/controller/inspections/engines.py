"""Engines that are held as they are: none is made, and none replaced, while all else of a spec takes effect. Pure.

Only what would make another pod is held. So a count follows the spec, and so does a restart that was asked for, where the
Deployment is there; what was never made stays away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenfleet.controller.drift import covers
from tokenfleet.controller.observed import ChildKey, Json, Observed
from tokenfleet.controller.resources.canary import live_template, remembered_template, restarted
from tokenfleet.controller.resources.metadata import engine_name, prefill_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    children: tuple[Json, ...]
    changes: bool
    """Whether something waits: an engine that is not there, or is to become another."""


def hold(observed: Observed, wanted: Sequence[Json], *, ours: frozenset[ChildKey]) -> Held:
    """The children to apply meanwhile. ours: those that are there and this owner's."""
    children: list[Json] = []
    changes = False
    for child in wanted:
        live = observed.children.get(_key(child))
        if not _runs_engines(observed, child) or (live is not None and _key(child) not in ours):
            children.append(child)
        elif live is None:
            changes = True
        elif _has_template(live, child):
            children.append(child)
        else:
            children.append(_with_its_own(live, child))
            changes = True
    return Held(children=tuple(children), changes=changes)


def serve(observed: Observed, wanted: Sequence[Json], *, ours: frozenset[ChildKey]) -> bool:
    """Whether engines of this very spec are there, and at least one of each kind is ready."""
    engines = [child for child in wanted if _runs_engines(observed, child)]
    return all(_key(child) in ours and _serves(observed.children[_key(child)], child) for child in engines)


def _serves(live: Json, child: Json) -> bool:
    status = live.get("status") or {}
    seen = (status.get("observedGeneration") or 0) >= (live["metadata"].get("generation") or 0)
    rolled_out = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return _has_template(live, child) and seen and rolled_out and status.get("readyReplicas", 0) > 0


def _has_template(live: Json, child: Json) -> bool:
    """But for a restart."""
    template = child["spec"]["template"]
    return covers(restarted(live["spec"]["template"], like=template), template)


def _with_its_own(live: Json, child: Json) -> Json:
    """The Deployment as it is wanted, with the pods that it has."""
    template = restarted(remembered_template(live) or live_template(live), like=child["spec"]["template"])
    return {**child, "spec": {**child["spec"], "template": template}}


def _runs_engines(observed: Observed, child: Json) -> bool:
    return _key(child) in {("Deployment", engine_name(observed.name)), ("Deployment", prefill_name(observed.name))}


def _key(child: Json) -> ChildKey:
    return child["kind"], child["metadata"]["name"]
