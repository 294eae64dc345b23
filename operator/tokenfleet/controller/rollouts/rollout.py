"""How a change of the engines' pods reaches them: at once, or by a canary first. Pure.

`steer` looks at what the spec asks for and at what the Deployments keep, and says which template each is to have now, whether
a canary's pod runs beside them, and how far that is. A rollback is written into the status, and so known to the routers, one
turn before its pod goes. What differs between two templates is compared without a restart, which needs no trial.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet.api.pods import Canary
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller import pods
from tokenfleet.controller.drift import covers, digest
from tokenfleet.controller.goodbyes.course import wanted_replicas
from tokenfleet.controller.observed import ChildKey, Json, Observed, TrackLoad
from tokenfleet.controller.resources.canary import (
    build_canary_deployment,
    live_template,
    remembered_template,
    restarted,
    with_template,
)
from tokenfleet.controller.resources.metadata import canary_name, engine_name, prefill_name
from tokenfleet.controller.rollouts.canary import (
    PROGRESSING,
    PROMOTE,
    PROMOTING,
    ROLLED_BACK,
    Facts,
    Stage,
    advance,
    seconds_left,
)
from tokenfleet.controller.verdicts import checks, failures

_SOON: Final = 2 / 3
"""Of the seconds that are left: the queue spreads what it is told by up to half, and a stage is to end on time."""
_AGAIN_SECONDS: Final = 0.5
"""At least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What `steer` came to."""

    children: tuple[Json, ...]
    stage: Stage | None = None
    watches_load: bool = False
    again_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What the Deployments have, and what the spec asks for."""

    asked: Mapping[ChildKey, Json]
    """By Deployment of engines, as the spec makes it."""
    kept: Mapping[ChildKey, Json]
    """Templates, of those that are there and ours."""
    differs: bool
    digest: str

    @property
    def untried(self) -> str:
        """Why a share of the requests cannot try this, in a sentence; empty: it can."""
        if set(self.asked) != set(self.kept):
            return "Prompts are read by other pods than before, which cannot be tried on a share of the requests."
        if any(_served_name(self.kept[key]) != _served_name(child["spec"]["template"]) for key, child in self.asked.items()):
            return "The model has another name, which cannot be tried on a share of the requests."
        return ""


def steer(observed: Observed, spec: Spec, wanted: Sequence[Json], *, ours: frozenset[ChildKey], now: str) -> Rollout:
    """The children to apply. ours: those that are there and this owner's. now: RFC 3339 in UTC."""
    if not isinstance(spec, LLMDeploymentSpec) or spec.rollout.canary is None:
        return Rollout(children=tuple(wanted))
    change = _change(observed, wanted, ours)
    before = Stage.from_status((observed.owner.get("status") or {}).get("rollout"))
    same = before if before is not None and before.revision.endswith(f"-{change.digest}") else None
    stage = _stage(observed, spec, spec.rollout.canary, change, same, now=now)
    keeps = (stage is not None and stage.phase != PROMOTING) or (change.differs and _winding_down(observed, spec, change))
    templates = change.kept if keeps else {}
    children = [_settled(child, templates, change) for child in wanted]
    if stage is not None and _has_pod(observed, stage, same, ours):
        children.append(build_canary_deployment(change.asked[_engines(observed)], owner=observed.name))
    return Rollout(
        children=tuple(children),
        stage=stage,
        watches_load=stage is not None and stage.phase == PROGRESSING and stage.step > 0,
        again_after=_again_after(spec.rollout.canary, stage, same, now=now),
    )


def _stage(
    observed: Observed, spec: LLMDeploymentSpec, canary: Canary, change: _Change, before: Stage | None, *, now: str
) -> Stage | None:
    """How far the revision that the spec asks for is; `before` is the same one's. None: there is nothing to try."""
    if _engines(observed) not in change.kept:
        return None
    if not change.differs:  # Where this very revision was on trial, the turn that promoted it may have ended too soon.
        if before is None or before.phase == ROLLED_BACK or _is_rolled_out(observed, change):
            return None
        return before if before.phase == PROMOTING else before.promoting("All steps are over.", now=now)
    if before is not None and before.phase == PROMOTING:
        return before
    facts = _facts(observed, spec, change, before)
    if before is not None and before.phase == ROLLED_BACK:
        return before.promoting("It was promoted by hand.", now=now) if facts.order == PROMOTE else before
    if wanted_replicas(observed, spec) == 0:
        return None
    if before is not None:
        return advance(canary, before, facts, now=now)
    first = Stage.first(f"{observed.owner['metadata']['generation']}-{change.digest}", now=now)
    return first.promoting(change.untried, now=now) if change.untried else first


def _change(observed: Observed, wanted: Sequence[Json], ours: frozenset[ChildKey]) -> _Change:
    names = {engine_name(observed.name), prefill_name(observed.name)}
    asked = {_key(child): child for child in wanted if child["kind"] == "Deployment" and child["metadata"]["name"] in names}
    kept: dict[ChildKey, Json] = {}
    differs = False
    for key in ours & {("Deployment", name) for name in names}:
        live = observed.children[key]
        if key not in asked:
            kept[key] = live_template(live)
            continue
        template = asked[key]["spec"]["template"]
        if (known := remembered_template(live)) is not None:
            kept[key] = restarted(known, like=template)
            differs |= kept[key] != template
        elif covers(restarted(live["spec"]["template"], like=template), template):
            kept[key] = template
        else:
            kept[key], differs = restarted(live_template(live), like=template), True
    essence = {name: _without_restart(child["spec"]["template"]) for (_, name), child in asked.items()}
    return _Change(asked=asked, kept=kept, differs=differs, digest=digest(essence)[:8])


def _settled(child: Json, templates: Mapping[ChildKey, Json], change: _Change) -> Json:
    """An engines' Deployment with the template that it is to have now; any other child as it is."""
    key = _key(child)
    return with_template(child, templates.get(key, child["spec"]["template"])) if key in change.asked else child


def _winding_down(observed: Observed, spec: LLMDeploymentSpec, change: _Change) -> bool:
    """Whether pods that are to go still drain: a new template would replace them first."""
    engines = change.asked[_engines(observed)]
    return wanted_replicas(observed, spec) == 0 and engines["spec"]["replicas"] > 0 and not change.untried


def _has_pod(observed: Observed, stage: Stage, before: Stage | None, ours: frozenset[ChildKey]) -> bool:
    """Whether the canary's Deployment is to be there."""
    if stage.phase == PROMOTING:
        tried = before is not None and before.phase != ROLLED_BACK
        return tried and ("Deployment", canary_name(observed.name)) in ours
    return stage.phase == PROGRESSING or (before is not None and before.phase == PROGRESSING)


def _facts(observed: Observed, spec: LLMDeploymentSpec, change: _Change, stage: Stage | None) -> Facts:
    verb, _, revision = _order(observed).partition(":")
    engines = change.asked[_engines(observed)]
    live = observed.children.get(("Deployment", canary_name(observed.name)))
    wanted = build_canary_deployment(engines, owner=observed.name)
    load = observed.load if observed.load is not None and observed.load.complete else None
    return Facts(
        pod_ready=live is not None and _is_applied(live, wanted) and _all_available(live),
        trouble=_trouble(observed, spec),
        crash=_crash(observed, since=stage.figures.since) if stage is not None and stage.figures is not None else "",
        load=None if load is None else load.tracks.get(contract.TRACK_CANARY, TrackLoad()),
        order=verb if stage is not None and revision == stage.revision else "",
        promote=f"tokenfleet rollout promote {observed.name} -n {observed.namespace}",
    )


def _order(observed: Observed) -> str:
    return str((observed.owner["metadata"].get("annotations") or {}).get(contract.ANNOTATION_ROLLOUT, ""))


def _trouble(observed: Observed, spec: LLMDeploymentSpec) -> str:
    verdict = checks.canary_ready(observed, spec)
    return "" if verdict.status == "True" else verdict.message


def _crash(observed: Observed, *, since: str) -> str:
    """How the canary's engine ended at or after that time."""
    for pod in filter(pods.is_active, observed.pods):
        if pods.track(pod) != contract.TRACK_CANARY:
            continue
        status = pods.container(pod, contract.CONTAINER_ENGINE) or {}
        end = failures.end_of(status)
        if end is not None and (end.get("finishedAt") or "") >= since:
            return failures.explain(pod, status, end).message
    return ""


def _is_rolled_out(observed: Observed, change: _Change) -> bool:
    """Whether every engine is as asked for."""
    return all((live := observed.children.get(key)) is not None and _all_available(live) for key in change.asked)


def _is_applied(live: Json, child: Json) -> bool:
    """Whether it is this very child that stands there."""
    return (live["metadata"].get("annotations") or {}).get(contract.ANNOTATION_APPLIED_HASH) == digest(child)


def _all_available(live: Json) -> bool:
    """Whether its rollout is complete."""
    status, replicas = live.get("status") or {}, live["spec"].get("replicas", 1)
    counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
    seen = (status.get("observedGeneration") or 0) >= (live["metadata"].get("generation") or 0)
    return seen and all(count == replicas for count in counts)


def _again_after(canary: Canary, stage: Stage | None, before: Stage | None, *, now: str) -> float | None:
    if stage is None:
        return None
    if stage.phase == ROLLED_BACK:  # Once its weight is known to be 0, its pod may go.
        return 0.0 if before is not None and before.phase == PROGRESSING else None
    left = seconds_left(canary, stage, now=now)
    return None if left is None else max(_AGAIN_SECONDS, left * _SOON)


def _without_restart(template: Json) -> Json:
    return restarted(template, like={"metadata": {}})


def _served_name(template: Json) -> str | None:
    """What the engine calls its model."""
    containers = template["spec"].get("containers") or ()
    words = next((each.get("args") or [] for each in containers if each["name"] == contract.CONTAINER_ENGINE), [])
    place = words.index("--served-name") + 1 if "--served-name" in words else len(words)
    return words[place] if place < len(words) else None


def _engines(observed: Observed) -> ChildKey:
    return "Deployment", engine_name(observed.name)


def _key(child: Json) -> ChildKey:
    return child["kind"], child["metadata"]["name"]
