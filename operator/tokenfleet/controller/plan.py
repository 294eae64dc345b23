"""From what is to what should be: which children to apply, which to delete, and which to leave alone. Pure.

A child is applied where it is missing, where its hash annotation is not that of what we want now (we may have stopped
sending a field), or where someone changed a field of ours. Whose an object is decides first: ours by the uid in its
controller reference, or orphaned by `kubectl delete --cascade=orphan` and so ours again; one that the garbage collector is
about to take is waited for; anything else at a child's name is somebody's, and is never written to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import PARSERS, Spec
from tokenfleet.controller import shared_router
from tokenfleet.controller.drift import covers, digest, projected, stamped
from tokenfleet.controller.goodbyes import course
from tokenfleet.controller.goodbyes.course import Course
from tokenfleet.controller.inspections.fit import Assessment, Fit, assess
from tokenfleet.controller.observed import ChildKey, Json, Observed
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.rollouts import rollout
from tokenfleet.errors import InvalidSpec
from tokenfleet.settings import ControllerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Apply `child`, if the object of that name still has this uid; None: if there still is none."""

    child: Json
    uid: str | None

    @property
    def key(self) -> ChildKey:
        return self.child["kind"], self.child["metadata"]["name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete the object, if it still has this uid."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    spec: Spec | InvalidSpec
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    conflicts: tuple[ChildKey, ...] = ()
    """Children whose name someone else's object has."""
    awaited: tuple[ChildKey, ...] = ()
    """Children whose name is still taken by one that is going away."""
    course: Course = course.NONE
    """What to do about the engine pods themselves."""
    rollout: Json | None = None
    """As status.rollout."""
    fit: Fit | None = None
    """Whether the model fits; None: nobody asks."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the API server made of a child that it does not keep as sent: applying it again would change nothing."""

    sent: str
    kept: str

    @classmethod
    def of(cls, live: Json, child: Json) -> "Accepted":
        return cls(sent=digest(child), kept=digest(projected(live, child)))


class _Standing(Enum):
    OURS = auto()
    LEAVING = auto()
    THEIRS = auto()


def plan(
    observed: Observed, settings: ControllerSettings, *, now: str, accepted: Mapping[ChildKey, Accepted] | None = None
) -> Plan:
    """What to write for one owner. Nothing at all, where its spec cannot be run: what ran before goes on."""
    ours = _ours(observed)
    try:
        spec = PARSERS[observed.kind](observed.name, observed.owner.get("spec"))
        settled = course.settle(observed, spec, now=now)
        wanted = build_children(
            observed.owner, spec, settings, settled.replicas, router_max_in_flight=shared_router.max_in_flight(observed)
        )
        assessed = assess(observed, spec, wanted, settings, ours=ours, now=now)
    except InvalidSpec as error:
        stage = (observed.owner.get("status") or {}).get("rollout")
        return Plan(spec=error, course=course.keep(observed, now=now), rollout=stage)
    steered = rollout.steer(observed, spec, assessed.children, ours=ours, now=now)
    draft = _Draft()
    for child in steered.children:
        _place(draft, observed, stamped(child), accepted or {})
    names = {(child["kind"], child["metadata"]["name"]) for child in steered.children}
    deletes = tuple(
        Delete(kind=kind, name=name, uid=live["metadata"]["uid"])
        for (kind, name), live in observed.children.items()
        if (kind, name) not in names
        and _controller_uid(live) == observed.uid
        and not _is_leaving(live)
        and not _serves_on(live, observed)
    )
    return Plan(
        spec=spec,
        applies=tuple(draft.applies),
        deletes=deletes,
        conflicts=tuple(draft.conflicts),
        awaited=tuple(draft.awaited),
        course=_joined(settled, steered, assessed),
        rollout=steered.stage.as_status() if steered.stage is not None else None,
        fit=assessed.fit,
    )


def _ours(observed: Observed) -> frozenset[ChildKey]:
    return frozenset(key for key, live in observed.children.items() if belongs(live, observed))


def _joined(settled: Course, steered: rollout.Rollout, assessed: Assessment) -> Course:
    """With what a rollout waits for, and an inspection."""
    waits = [each.again_after for each in (settled, steered, assessed) if each.again_after is not None]
    watches = settled.watches_load or steered.watches_load
    return replace(settled, watches_load=watches, again_after=min(waits, default=None))


@dataclass(slots=True)
class _Draft:
    applies: list[Apply] = field(default_factory=list)
    conflicts: list[ChildKey] = field(default_factory=list)
    awaited: list[ChildKey] = field(default_factory=list)


def _place(draft: _Draft, observed: Observed, child: Json, accepted: Mapping[ChildKey, Accepted]) -> None:
    key = (child["kind"], child["metadata"]["name"])
    live = observed.children.get(key)
    if live is None:
        draft.applies.append(Apply(child=child, uid=None))
        return
    match standing(live, observed):
        case _Standing.THEIRS:
            draft.conflicts.append(key)
        case _Standing.LEAVING:
            draft.awaited.append(key)
        case _Standing.OURS:
            if not covers(live, child) and accepted.get(key) != Accepted.of(live, child):
                draft.applies.append(Apply(child=child, uid=live["metadata"]["uid"]))


def _serves_on(live: Json, observed: Observed) -> bool:
    """A router of its own stays until the LLMRouter that is to serve instead does so."""
    role = (live["metadata"].get("labels") or {}).get(contract.LABEL_ROLE)
    return role == contract.ROLE_ROUTER and observed.router_ref is not None and not shared_router.takes_over(observed)


def standing(live: Json, observed: Observed) -> _Standing:
    """Whose an object at a child's name is."""
    controller = _controller(live)
    ours = controller.get("uid") == observed.uid if controller else _is_orphan(live, observed)
    if ours:
        return _Standing.LEAVING if _is_leaving(live) else _Standing.OURS
    # Of one of the same kind and name that is gone: the garbage collector will come for it.
    predecessor = controller.get("kind") == observed.kind and controller.get("name") == observed.name
    return _Standing.LEAVING if predecessor else _Standing.THEIRS


def belongs(live: Json, observed: Observed) -> bool:
    """Whether an object is a child of this owner."""
    return standing(live, observed) is _Standing.OURS


def _controller(live: Json) -> Json:
    references = live["metadata"].get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), {})


def _controller_uid(live: Json) -> str | None:
    return _controller(live).get("uid")


def _is_leaving(live: Json) -> bool:
    return "deletionTimestamp" in live["metadata"]


def _is_orphan(live: Json, observed: Observed) -> bool:
    """Applied by us for an owner of this kind and name, and now without any."""
    metadata = live["metadata"]
    return (
        not metadata.get("ownerReferences")
        and (metadata.get("labels") or {}).get(contract.OWNER_LABELS[observed.kind]) == observed.name
        and contract.ANNOTATION_APPLIED_HASH in (metadata.get("annotations") or {})
    )
