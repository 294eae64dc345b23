"""What would change in a cluster if an object were applied: each child of it that would be made, changed or deleted. Pure.

The children are those that the controller itself would build, once all goodbyes are said. Of what is there, only the fields
that it sends, or sent for the spec before, are compared: what others added to an object is not its to change.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import PARSERS, LLMDeploymentSpec, Spec
from tokenfleet.controller import shared_router
from tokenfleet.controller.drift import covers, projected
from tokenfleet.controller.goodbyes.course import wanted_replicas
from tokenfleet.controller.observed import ChildKey, Observed
from tokenfleet.controller.plan import belongs
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL
from tokenfleet.controller.resources.metadata import canary_name, engine_name, prefill_name
from tokenfleet.errors import InvalidSpec
from tokenfleet.settings import ControllerSettings

Json = dict[str, Any]

_ACTIONS: Final = {"create": "+", "change": "~", "delete": "-", "taken": "!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Of one object. taken: its name is somebody else's object's, so that it cannot be made."""

    action: Literal["create", "change", "delete", "taken"]
    kind: str
    name: str
    before: Json | None = None
    after: Json | None = None

    @property
    def sign(self) -> str:
        return _ACTIONS[self.action]

    @property
    def template_differs(self) -> bool:
        """Whether its pods would be others."""
        if self.kind != "Deployment" or self.before is None or self.after is None:
            return False
        return bool(self.before["spec"].get("template") != self.after["spec"].get("template"))

    def diff(self) -> list[str]:
        """Unified, of what is there and what would be."""
        if self.action == "taken":
            return []
        name = f"{self.kind}/{self.name}"
        lines = difflib.unified_diff(_lines(self.before), _lines(self.after), f"{name} now", f"{name} then", lineterm="")
        return list(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Of one owner: what it would have, and what would be done for that."""

    wanted: tuple[Json, ...]
    changes: tuple[Change, ...]
    replicas: int
    """Of engines that answer, once all is done."""

    @property
    def engines(self) -> Json | None:
        """Their Deployment; None: of an LLMRouter."""
        return next((one for one in self.wanted if _role_of(one) == DECODE.role and one["kind"] == "Deployment"), None)

    @property
    def prefill(self) -> Json | None:
        return next((one for one in self.wanted if _role_of(one) == PREFILL.role and one["kind"] == "Deployment"), None)


def children_of(after: Observed, settings: ControllerSettings, *, before: Json | None, certain: bool = True) -> Children:
    """after: with the owner as it would be, and what is there; before: the owner as it is. Raises InvalidSpec.

    certain: the settings are those of the controller. Where not, what differs by the settings is no change of the spec's, so
    what the two specs come to is compared instead of what is there.
    """
    spec = PARSERS[after.kind](after.name, after.owner.get("spec"))
    wanted = _built(after, spec, settings)
    sent = {_key(child): child for child in _sent(after, before, settings)}
    replicas = wanted_replicas(after, spec) if isinstance(spec, LLMDeploymentSpec) else 0
    changes = [change for child in wanted if (change := _change(after, child, sent.get(_key(child)), certain)) is not None]
    return Children(wanted=tuple(wanted), changes=(*changes, *_deletions(after, wanted)), replicas=replicas)


def _built(observed: Observed, spec: Spec, settings: ControllerSettings) -> list[Json]:
    replicas: Mapping[str, int] | None = None
    if isinstance(spec, LLMDeploymentSpec):
        count = wanted_replicas(observed, spec)
        replicas = {part.role: part.replicas(spec, count) for part in (DECODE, PREFILL)}
    most = shared_router.max_in_flight(observed)
    return build_children(observed.owner, spec, settings, replicas, router_max_in_flight=most)


def _sent(after: Observed, before: Json | None, settings: ControllerSettings) -> list[Json]:
    """What the controller sent for the owner as it is; nothing, where that cannot be run."""
    if before is None:
        return []
    observed = Observed(owner=before, children=after.children, pods=after.pods, router=after.router)
    try:
        return _built(observed, PARSERS[observed.kind](observed.name, before.get("spec")), settings)
    except InvalidSpec:
        return []


def _change(observed: Observed, child: Json, sent: Json | None, certain: bool) -> Change | None:
    kind, name = _key(child)
    live = observed.children.get((kind, name))
    if live is None or "deletionTimestamp" in live["metadata"]:
        return Change(action="create", kind=kind, name=name, after=child)
    if not belongs(live, observed):
        return Change(action="taken", kind=kind, name=name)
    if sent == child if sent is not None and not certain else covers(live, child) and sent in (None, child):
        return None
    before = projected(live, sent or child) if certain or sent is None else sent
    if sent is not None and covers(before, child) and covers(child, before):
        return None
    return Change(action="change", kind=kind, name=name, before=before, after=child)


def _deletions(observed: Observed, wanted: list[Json]) -> Iterator[Change]:
    """But for a canary, which is the rollout's to end."""
    names = {*(_key(child) for child in wanted), ("Deployment", canary_name(observed.name))}
    for (kind, name), live in observed.children.items():
        stays = (kind, name) in names or "deletionTimestamp" in live["metadata"]
        if not stays and belongs(live, observed):
            yield Change(action="delete", kind=kind, name=name, before=_essence(live))


def rollout_of(spec: LLMDeploymentSpec, changes: tuple[Change, ...], *, name: str, running: int) -> list[str]:
    """How the change reaches the engines, in sentences. running: engines that answer now."""
    engines = {engine_name(name), prefill_name(name)}
    touched = [each for each in changes if each.name in engines and each.kind == "Deployment"]
    if not any(each.template_differs for each in touched):
        return []
    if running == 0:
        return ["Engines would be others; none runs now."]
    said = ["Engines are restarted: their pods would be others."]
    canary = spec.rollout.canary
    if canary is not None:
        weights = ", ".join(f"{weight} %" for weight in canary.weights)
        said.append(f"A canary is tried first, with {weights} of the requests, each for {canary.pause_seconds} s.")
    surge, unavailable = spec.rollout.max_surge, spec.rollout.max_unavailable
    if surge:
        said.append(f"Up to {surge} {'replica' if surge == 1 else 'replicas'} more run meanwhile, and need room of their own.")
    if unavailable:
        said.append(f"Up to {unavailable} of {running} replicas are away meanwhile.")
    said.append(f"Each old one first answers what it has begun, for {spec.drain.timeout_seconds} s at most.")
    return said


def _essence(live: Json) -> Json:
    """Without what only a running cluster adds."""
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "labels") if key in live["metadata"]}
    return {key: value for key, value in {**live, "metadata": metadata}.items() if key != "status"}


def _lines(body: Json | None) -> list[str]:
    return [] if body is None else yaml.safe_dump(body, sort_keys=True, width=120).splitlines()


def _key(child: Json) -> ChildKey:
    return child["kind"], child["metadata"]["name"]


def _role_of(child: Json) -> str | None:
    labels = child["metadata"].get("labels") or {}
    return None if contract.LABEL_DEPLOYMENT not in labels else labels.get(contract.LABEL_ROLE)
